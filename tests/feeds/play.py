"""Random people who post, like, follow, block, pay and hide, over HTTP, on any of several servers; and readers who hold
every answer against the model.

What goes wrong is told with the seed, by which it happens again.
"""

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote

from tests.factory import Factory
from tests.feeds.model import Model, ModelComment, ModelPost

# method, path, body, token -> status, document
Send = Callable[[str, str, Any, dict[str, str]], tuple[int, Any]]

FIELDS = (
    "fields=id,body,privacy,likes_count,comments_count,liked_by_me,followed_by_me,author.name,store.name,comments.id,"
    "comments.body,comments.author.name&include=author,store,comments.author"
)
PRIVACIES = ("public", "public", "followers", "private")
STORES_PRIVACIES = ("public", "followers", "members", "members", "private")


class Play:
    """`servers` share a database and a Redis. `set_member(store, user, package)` begins a membership, or ends it where
    the package is None, as a subscription would."""

    def __init__(
        self,
        seed: int,
        make: Factory,
        servers: Sequence[Send],
        set_member: Callable[[str, str, str | None], None],
        *,
        users: int = 7,
        stores: int = 2,
    ) -> None:
        self.random, self.servers, self.set_member = random.Random(seed), servers, set_member
        self.model, self.seen = Model(), Counter[str]()
        people = [make.user() for _ in range(users)]
        self.users = [str(user.id) for user in people]
        self.model.names = {str(user.id): user.name for user in people}
        self.auth: dict[str | None, dict[str, str]] = {str(user.id): make.auth(user) for user in people} | {None: {}}
        self.packages: dict[str, list[str]] = {}
        self.owners: dict[str, str] = {}
        for owner in self.random.sample(people, stores):
            store = make.store(owner)
            self.owners[str(store.id)] = str(owner.id)
            self.model.store_names[str(store.id)] = store.name
            self.model.staff.add((str(store.id), str(owner.id)))
            self.packages[str(store.id)] = [str(make.package(store).id) for _ in range(2)]
        self.stores = list(self.owners)

    # What people do. Each returns what it was, for the message when a reader finds something wrong after it.

    def act(self) -> str:
        deeds = {
            self.publish: 6,
            self.edit: 3,
            self.delete: 1,
            self.comment: 3,
            self.uncomment: 1,
            self.like: 6,
            self.unlike: 2,
            self.follow: 6,
            self.unfollow: 2,
            self.block: 1,
            self.unblock: 1,
            self.join: 2,
            self.lapse: 1,
            self.hire: 1,
            self.fire: 1,
            self.rename: 1,
            self.rename_store: 1,
        }
        deed = self.random.choices(list(deeds), list(deeds.values()))[0]
        return deed() or "nothing"

    def publish(self) -> str:
        user, store = self._user(), self.random.choice([None, *self.stores])
        model = self.model
        privacy = self.random.choice(STORES_PRIVACIES if store else PRIVACIES)
        packages: list[str] = []
        if store and privacy == "members":
            packages = self.random.sample(self.packages[store], self.random.choice((0, 1, 2)))
        status = self.random.choice(("published", "published", "published", "draft"))
        body = {"body": f"text {self.random.random()}", "privacy": privacy, "status": status, "package_ids": packages}
        code, document = self.send("POST", "/v1/posts", body | ({"store_id": store} if store else {}), user)
        if store and (store, user) not in model.staff:
            return self._expect(code, 403, "publish for a store of others")
        self._expect(code, 201, "publish")
        place = model.next_place() if status == "published" else 0
        post = ModelPost(document["id"], user, store, privacy, frozenset(packages), status, str(body["body"]), place)
        model.posts[post.id] = post
        return f"{user} published {post}"

    def edit(self) -> str | None:
        post = self._post()
        if post is None:
            return None
        user = self.random.choice([post.author, post.author, self._user()])
        change: dict[str, Any] = {}
        if self.random.random() < 0.5:
            change["body"] = f"text {self.random.random()}"
        if self.random.random() < 0.6:
            change["privacy"] = self.random.choice(STORES_PRIVACIES if post.store else PRIVACIES)
        if post.status == "draft" and self.random.random() < 0.5:
            change["status"] = "published"
        code, _ = self.send("PATCH", f"/v1/posts/{post.id}", change, user)
        if not self._may_write(user, post):
            return self._expect(code, 403 if self.model.sees(user, post) else 404, "edit others' post")
        self._expect(code, 200, "edit")
        post.body = change.get("body", post.body)
        post.privacy = change.get("privacy", post.privacy)
        if post.privacy != "members":
            post.packages = frozenset()
        if change.get("status") == "published" and post.status == "draft":
            post.status, post.place = "published", self.model.next_place()
        return f"{user} made of {post.id} {change}"

    def delete(self) -> str | None:
        post = self._post()
        if post is None:
            return None
        user = self.random.choice([post.author, self._user()])
        code, _ = self.send("DELETE", f"/v1/posts/{post.id}", None, user)
        if not self._may_write(user, post):
            return self._expect(code, 403 if self.model.sees(user, post) else 404, "delete others' post")
        self._expect(code, 204, "delete")
        self.model.delete_post(post.id)
        return f"{user} deleted {post.id}"

    def comment(self) -> str | None:
        post, user = self._post(), self._user()
        if post is None:
            return None
        text = f"comment {self.random.random()}"
        code, document = self.send("POST", f"/v1/posts/{post.id}/comments", {"body": text}, user)
        if (refused := self._refusal(user, post)) and self._expect(code, refused, "comment"):
            return None
        self._expect(code, 201, "comment")
        comment = ModelComment(document["id"], post.id, user, text)
        self.model.comments[comment.id] = comment
        return f"{user} commented on {post.id}"

    def uncomment(self) -> str | None:
        if not self.model.comments:
            return None
        comment = self.random.choice(list(self.model.comments.values()))
        post, user = self.model.posts[comment.post], self.random.choice([comment.author, self._user()])
        code, _ = self.send("DELETE", f"/v1/posts/{post.id}/comments/{comment.id}", None, user)
        if not (self.model.sees(user, post) and self.model.sees_comment(user, comment)):
            return self._expect(code, 404, "delete a hidden comment")
        if user != comment.author and not self.model.moderates(user, post):
            return self._expect(code, 403, "delete others' comment")
        self._expect(code, 204, "delete a comment")
        del self.model.comments[comment.id]
        return f"{user} deleted a comment on {post.id}"

    def like(self) -> str | None:
        post, user = self._post(), self._user()
        if post is None:
            return None
        code, _ = self.send("PUT", f"/v1/posts/{post.id}/like", None, user)
        if refused := self._refusal(user, post):
            return self._expect(code, refused, "like")
        self._expect(code, 200, "like")
        if (post.id, user) not in self.model.likes:
            self.model.likes.append((post.id, user))
        return f"{user} likes {post.id}"

    def unlike(self) -> str | None:
        if not self.model.likes:
            return None
        post_id, user = self.random.choice(self.model.likes)
        code, _ = self.send("DELETE", f"/v1/posts/{post_id}/like", None, user)
        if not self.model.sees(user, self.model.posts[post_id]):
            return self._expect(code, 404, "unlike what is hidden")
        self._expect(code, 204, "unlike")
        self.model.likes.remove((post_id, user))
        return f"{user} likes {post_id} no more"

    def follow(self) -> str:
        one, other = self._user(), self._user()
        code, _ = self.send("PUT", f"/v1/me/following/{other}", None, one)
        if one == other or self.model.hidden(one, other):
            return self._expect(code, 409 if one == other else 404, "follow")
        self._expect(code, 200, "follow")
        if (one, other) not in self.model.follows:
            self.model.follows.append((one, other))
        return f"{one} follows {other}"

    def unfollow(self) -> str | None:
        if not self.model.follows:
            return None
        one, other = self.random.choice(self.model.follows)
        self._expect(self.send("DELETE", f"/v1/me/following/{other}", None, one)[0], 204, "unfollow")
        self.model.follows.remove((one, other))
        return f"{one} follows {other} no more"

    def block(self) -> str:
        one, other = self._user(), self._user()
        code, _ = self.send("PUT", f"/v1/me/blocks/{other}", None, one)
        if one == other:
            return self._expect(code, 409, "block oneself")
        if (one, other) not in self.model.blocks and (other, one) in self.model.blocks:
            return self._expect(code, 404, "block somebody invisible")
        self._expect(code, 200, "block")
        self.model.block(one, other)
        return f"{one} blocks {other}"

    def unblock(self) -> str | None:
        if not self.model.blocks:
            return None
        one, other = self.random.choice(sorted(self.model.blocks))
        self._expect(self.send("DELETE", f"/v1/me/blocks/{other}", None, one)[0], 204, "unblock")
        self.model.blocks.remove((one, other))
        return f"{one} blocks {other} no more"

    def rename(self) -> str:
        user, name = self._user(), f"Name {self.random.random()}"
        self._expect(self.send("PATCH", "/v1/me", {"name": name}, user)[0], 200, "rename")
        self.model.names[user] = name
        return f"{user} is called {name}"

    def rename_store(self) -> str:
        store, name = self.random.choice(self.stores), f"Store {self.random.random()}"
        code, _ = self.send("PATCH", f"/v1/stores/{store}", {"name": name}, self.owners[store])
        self._expect(code, 200, "rename a store")
        self.model.store_names[store] = name
        return f"{store} is called {name}"

    def hire(self) -> str | None:
        store, user = self.random.choice(self.stores), self._user()
        if self.owners[store] == user:
            return None
        path, role = f"/v1/stores/{store}/staff/{user}", {"role": "manager"}
        self._expect(self.send("PUT", path, role, self.owners[store])[0], 200, "hire")
        self.model.staff.add((store, user))
        return f"{store} hired {user}"

    def fire(self) -> str | None:
        hired = [(store, user) for store, user in sorted(self.model.staff) if self.owners[store] != user]
        if not hired:
            return None
        store, user = self.random.choice(hired)
        code, _ = self.send("DELETE", f"/v1/stores/{store}/staff/{user}", None, self.owners[store])
        self._expect(code, 204, "fire")
        self.model.staff.remove((store, user))
        return f"{store} fired {user}"

    def join(self) -> str:
        store, user = self.random.choice(self.stores), self._user()
        package = self.random.choice(self.packages[store])
        self.set_member(store, user, package)
        self.model.members[store, user] = package
        return f"{user} joined {store}"

    def lapse(self) -> str | None:
        if not self.model.members:
            return None
        store, user = self.random.choice(sorted(self.model.members))
        self.set_member(store, user, None)
        del self.model.members[store, user]
        return f"{user} is a member of {store} no more"

    # What readers find.

    def look(self) -> list[str]:
        """Some reads by somebody, on one server or the other. Returns: what was not as it is."""
        viewer = self.random.choice([None, *self.users, *self.users])
        reads: list[Callable[[str | None], list[str]]] = [
            self.read_feed,
            self.read_post,
            self.read_profile,
            self.read_lists,
        ]
        return self.random.choice([self.read_feed, *reads])(viewer)

    def read_feed(self, viewer: str | None) -> list[str]:
        path, expected = "/v1/posts", self.model.feed(viewer)
        if viewer and self.random.random() < 0.8:
            path = self.random.choice(("/v1/feed", "/v1/newsfeed", "/v1/newsfeed"))
            expected = self.model.newsfeed(viewer) if path == "/v1/newsfeed" else expected
        size = self.random.choice((2, 3, 20))
        if self.random.random() < 0.5:
            return self._pages(viewer, f"{path}?page=1&per_page={size}&{FIELDS}", expected, size)
        return self._pages(viewer, f"{path}?cursor=&limit={size}&{FIELDS}", expected, size)

    def _pages(self, viewer: str | None, path: str, expected: list[str], size: int) -> list[str]:
        """Walk some pages of a list of posts."""
        wrong: list[str] = []
        link: str | None = path
        for start in range(0, 3 * size, size):
            if link is None:
                break
            document = self._get(viewer, link)
            shown = [self.model.post(viewer, post_id) for post_id in expected[start : start + size]]
            wrong += self._differences(viewer, link, document["data"], shown)
            if (total := document["meta"].get("total")) not in (None, len(expected)):
                wrong.append(f"{viewer} {link}: a total of {total} instead of {len(expected)}")
            link = document["links"]["next"]
        return wrong

    def read_post(self, viewer: str | None) -> list[str]:
        post = self._post()
        if post is None:
            return []
        path = f"/v1/posts/{post.id}"
        if not self.model.sees(viewer, post):
            paths = (path, f"{path}/comments", f"{path}/likes")
            statuses = [self.send("GET", each, None, viewer)[0] for each in paths]
            return [] if statuses == [404] * 3 else [f"{viewer} GET {path}: {statuses} of what is hidden"]
        wrong = self._differences(viewer, path, self._get(viewer, f"{path}?{FIELDS}"), self.model.post(viewer, post.id))
        comments = [c.id for c in self.model.comments_of(viewer, post.id)]
        wrong += self._differences(viewer, f"{path}/comments", self._ids(viewer, f"{path}/comments"), comments)
        likes = [item["user_id"] for item in self._get(viewer, f"{path}/likes")["data"]]
        return wrong + self._differences(viewer, f"{path}/likes", likes, self.model.likes_of(viewer, post.id)[:20])

    def read_profile(self, viewer: str | None) -> list[str]:
        user = self._user()
        path = f"/v1/users/{user}"
        if viewer and self.model.hidden(viewer, user):
            status = self.send("GET", path, None, viewer)[0]
            return [] if status == 404 else [f"{viewer} GET {path}: {status} of somebody hidden"]
        expected = self.model.profile(viewer, user)
        wrong = self._differences(viewer, path, self._get(viewer, f"{path}?fields={','.join(expected)}"), expected)
        if viewer:
            for tail, people in (("followers", self.model.followers), ("following", self.model.following)):
                found = self._ids(viewer, f"{path}/{tail}")
                wrong += self._differences(viewer, f"{path}/{tail}", found, people(viewer, user)[:20])
        return wrong

    def read_lists(self, viewer: str | None) -> list[str]:
        user, store = self._user(), self.random.choice(self.stores)
        wrong: list[str] = []
        if not (viewer and self.model.hidden(viewer, user)):
            path, expected = f"/v1/users/{user}/posts", self.model.feed(viewer, author=user)
            wrong += self._pages(viewer, f"{path}?cursor=&limit=3&{FIELDS}", expected, 3)
        path, expected = f"/v1/stores/{store}/posts", self.model.feed(viewer, store=store)
        wrong += self._pages(viewer, f"{path}?page=1&per_page=3&{FIELDS}", expected, 3)
        word = quote(self.random.choice([post.body for post in self.model.posts.values()] or ["text"]).split()[-1])
        expected = [p for p in self.model.feed(viewer) if word in self.model.posts[p].body]
        return wrong + self._differences(viewer, f"q={word}", self._ids(viewer, f"/v1/posts?q={word}"), expected)

    # How it is asked.

    def send(self, method: str, path: str, body: Any, user: str | None) -> tuple[int, Any]:
        return self.random.choice(self.servers)(method, path, body, self.auth[user])

    def _get(self, viewer: str | None, path: str) -> Any:
        status, document = self.send("GET", path, None, viewer)
        self.seen["reads"] += 1
        assert status == 200, f"{viewer} GET {path}: {status} {document}"
        return document

    def _ids(self, viewer: str | None, path: str) -> list[str]:
        return [item["id"] for item in self._get(viewer, path)["data"]]

    def _differences(self, viewer: str | None, path: str, found: Any, expected: Any) -> list[str]:
        if found == expected:
            return []
        return [f"{viewer} GET {path}:\n  found    {json.dumps(found)}\n  expected {json.dumps(expected)}"]

    def _expect(self, found: int, expected: int, what: str) -> str:
        assert found == expected, f"{what}: {found} instead of {expected}"
        return f"{what}: {found}"

    def _refusal(self, user: str, post: ModelPost) -> int:
        if not self.model.sees(user, post):
            return 404
        return 0 if post.status == "published" else 409

    def _may_write(self, user: str, post: ModelPost) -> bool:
        return (post.store, user) in self.model.staff if post.store else user == post.author

    def _user(self) -> str:
        return self.random.choice(self.users)

    def _post(self) -> ModelPost | None:
        """One of the newest, for the most part."""
        posts = list(self.model.posts.values())
        return self.random.choice(posts[-8:] if self.random.random() < 0.7 else posts) if posts else None
