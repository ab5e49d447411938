"""What posts, follows and feeds are, said plainly in Python: no SQL, no cache, no index.

It is told of every change, and says what each read must answer for each viewer.
"""

from dataclasses import dataclass, field
from typing import Any

Pair = tuple[str, str]


@dataclass
class ModelPost:
    id: str
    author: str
    store: str | None
    privacy: str
    packages: frozenset[str]
    status: str
    body: str
    # Where it stands among all posts: the later it was published, the higher.
    place: int = 0


@dataclass
class ModelComment:
    id: str
    post: str
    author: str
    body: str


@dataclass
class Model:
    """Users, stores, posts and comments are named by their ids."""

    names: dict[str, str] = field(default_factory=dict)
    store_names: dict[str, str] = field(default_factory=dict)
    staff: set[Pair] = field(default_factory=set)  # (store, user)
    members: dict[tuple[str, str], str] = field(default_factory=dict)  # (store, user) -> package
    follows: list[Pair] = field(default_factory=list)  # (follower, followed), in their order
    blocks: set[Pair] = field(default_factory=set)  # (blocker, blocked)
    posts: dict[str, ModelPost] = field(default_factory=dict)
    comments: dict[str, ModelComment] = field(default_factory=dict)  # in their order
    likes: list[Pair] = field(default_factory=list)  # (post, user), in their order
    places: int = 0

    def next_place(self) -> int:
        self.places += 1
        return self.places

    def hidden(self, one: str | None, other: str) -> bool:
        return (one, other) in self.blocks or (other, one) in self.blocks

    def sees(self, viewer: str | None, post: ModelPost) -> bool:
        if self.moderates(viewer, post):
            return True
        if post.status != "published" or (viewer and self.hidden(viewer, post.author)):
            return False
        match post.privacy:
            case "public":
                return True
            case "followers":
                return (viewer, post.author) in self.follows
            case "members":
                package = self.members.get((post.store or "", viewer or ""))
                return package is not None and (not post.packages or package in post.packages)
        return False

    def in_newsfeed(self, viewer: str, post: ModelPost) -> bool:
        return (
            viewer == post.author
            or (viewer, post.author) in self.follows
            or (post.store, viewer) in self.staff
            or (post.store, viewer) in self.members
        )

    def feed(self, viewer: str | None, **only: str) -> list[str]:
        """The ids of the posts that somebody sees, newest first; `only` those with these attributes."""
        found = [
            post
            for post in self.posts.values()
            if post.status == "published"
            and self.sees(viewer, post)
            and all(getattr(post, name) == value for name, value in only.items())
        ]
        return [post.id for post in sorted(found, key=lambda post: -post.place)]

    def newsfeed(self, viewer: str) -> list[str]:
        return [post_id for post_id in self.feed(viewer) if self.in_newsfeed(viewer, self.posts[post_id])]

    def moderates(self, user: str | None, post: ModelPost) -> bool:
        return user == post.author or (post.store, user) in self.staff

    def sees_comment(self, viewer: str | None, comment: ModelComment) -> bool:
        """Of a post that they see."""
        return self.moderates(viewer, self.posts[comment.post]) or not self.hidden(viewer, comment.author)

    def comments_of(self, viewer: str | None, post_id: str) -> list[ModelComment]:
        """Those that somebody sees, newest first."""
        found = [c for c in self.comments.values() if c.post == post_id]
        return [c for c in reversed(found) if self.sees_comment(viewer, c)]

    def likes_of(self, viewer: str | None, post_id: str) -> list[str]:
        """Who likes a post, as somebody sees it, newest first."""
        found = [user for post, user in reversed(self.likes) if post == post_id]
        return [user for user in found if not (viewer and self.hidden(viewer, user))]

    def post(self, viewer: str | None, post_id: str) -> dict[str, Any]:
        """What a read shows of a post, with its author, its store and its comments."""
        post = self.posts[post_id]
        return {
            "id": post.id,
            "body": post.body,
            "privacy": post.privacy,
            "likes_count": len(self.likes_of(viewer, post_id)),
            "comments_count": len(self.comments_of(viewer, post_id)),
            "liked_by_me": (post_id, viewer) in self.likes if viewer else None,
            "followed_by_me": (viewer, post.author) in self.follows if viewer else None,
            "author": {"name": self.names[post.author]},
            "store": {"name": self.store_names[post.store]} if post.store else None,
            "comments": [
                {"id": c.id, "body": c.body, "author": {"name": self.names[c.author]}}
                for c in self.comments_of(viewer, post_id)[:20]
            ],
        }

    def followers(self, viewer: str, user: str) -> list[str]:
        found = [follower for follower, followed in reversed(self.follows) if followed == user]
        return [follower for follower in found if not self.hidden(viewer, follower)]

    def following(self, viewer: str, user: str) -> list[str]:
        found = [followed for follower, followed in reversed(self.follows) if follower == user]
        return [followed for followed in found if not self.hidden(viewer, followed)]

    def profile(self, viewer: str | None, user: str) -> dict[str, Any]:
        return {
            "name": self.names[user],
            "posts_count": len(self.feed(viewer, author=user)),
            "followers_count": len(self.followers(viewer or "", user)),
            "following_count": len(self.following(viewer or "", user)),
            "followed_by_me": (viewer, user) in self.follows if viewer else None,
        }

    def delete_post(self, post_id: str) -> None:
        del self.posts[post_id]
        self.comments = {id_: c for id_, c in self.comments.items() if c.post != post_id}
        self.likes = [(post, user) for post, user in self.likes if post != post_id]

    def block(self, one: str, other: str) -> None:
        self.blocks.add((one, other))
        self.follows = [pair for pair in self.follows if set(pair) != {one, other}]
