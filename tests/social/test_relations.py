"""Who follows whom, and who is invisible to whom."""

import pytest
from flask import Flask

from dues.postgres.constraints import lock_key
from dues.social import counters, relations
from tests.contention import Contention
from tests.factory import Factory
from tests.social.conftest import People, Person


def counts(person: Person, of: Person) -> tuple[int, int]:
    profile = person.get(f"/v1/users/{of.id}")
    return profile["followers_count"], profile["following_count"]


class TestFollows:
    def test_once_each_however_often(self, people: People):
        ann, bob = people(), people()
        follow = bob.done("PUT", f"/v1/me/following/{ann.id}")
        assert bob.done("PUT", f"/v1/me/following/{ann.id}") == follow
        assert (follow["follower_id"], follow["followed_id"]) == (str(bob.id), str(ann.id))
        assert (counts(bob, ann), counts(ann, bob)) == ((1, 0), (0, 1))
        assert [bob.get(f"/v1/users/{ann.id}")["followed_by_me"], ann.get(f"/v1/users/{bob.id}")["followed_by_me"]] == [
            True,
            False,
        ]
        for _ in range(2):
            assert bob.status("DELETE", f"/v1/me/following/{ann.id}") == 204
        assert (counts(bob, ann), counts(ann, bob)) == ((0, 0), (0, 0))

    def test_the_newest_first(self, people: People):
        ann, bob, cem = people(), people(), people()
        bob.done("PUT", f"/v1/me/following/{ann.id}")
        cem.done("PUT", f"/v1/me/following/{ann.id}")
        cem.done("PUT", f"/v1/me/following/{bob.id}")
        found = bob.get(f"/v1/users/{ann.id}/followers")["data"]
        assert [(item["id"], item["name"], item["followed_by_me"]) for item in found] == [
            (str(cem.id), cem.user.name, False),
            (str(bob.id), bob.user.name, False),
        ]
        assert ann.ids(f"/v1/users/{cem.id}/following") == [str(bob.id), str(ann.id)]
        page = ann.get(f"/v1/users/{cem.id}/following?cursor=&limit=1")
        assert [item["id"] for item in ann.get(page["links"]["next"])["data"]] == [str(ann.id)]

    def test_nobody_follows_themselves_or_nobody(self, people: People):
        ann = people()
        assert ann.refused("PUT", f"/v1/me/following/{ann.id}")[:2] == (409, "own_account")
        assert ann.status("PUT", "/v1/me/following/019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20") == 404

    def test_as_many_as_one_may(self, people: People, make: Factory, monkeypatch: pytest.MonkeyPatch):
        ann = people()
        monkeypatch.setattr(counters, "MOST_FOLLOWED", 2)
        statuses = [ann.refused("PUT", f"/v1/me/following/{people().id}")[:2] for _ in range(3)]
        assert statuses == [(200, ""), (200, ""), (422, "too_many_followed")]

    def test_not_even_where_they_are_followed_at_the_same_time(self, people: People, make: Factory):
        """The check of the table has the last word."""
        ann, bob = people(), people()
        make.insert("follow_stats", {"user_id": ann.id, "following": 4999})
        ann.done("PUT", f"/v1/me/following/{bob.id}")
        # As if it had been read before the other was followed.
        room = counters.require_room_to_follow
        relations.require_room_to_follow = lambda user_id: None  # type: ignore[attr-defined]
        try:
            assert ann.refused("PUT", f"/v1/me/following/{people().id}")[:2] == (422, "too_many_followed")
        finally:
            relations.require_room_to_follow = room  # type: ignore[attr-defined]
        assert counts(ann, ann) == (0, 5000)

    def test_a_stores_owner_is_told(self, people: People, make: Factory):
        owner, fan = people(), people()
        store = make.store(owner.user)
        make.staff(make.store(), owner.user)
        follow = fan.done("PUT", f"/v1/me/following/{owner.id}")
        fan.done("PUT", f"/v1/me/following/{owner.id}")
        [event] = make.rows("select store_id, type, data from events")
        assert (event.store_id, event.type, event.data) == (store.id, "follow.created", follow)


class TestBlocks:
    def test_each_is_invisible_to_the_other(self, people: People):
        ann, bob = people(), people()
        ann.done("PUT", f"/v1/me/blocks/{bob.id}")
        for one, other in ((ann, bob), (bob, ann)):
            for tail in ("", "/posts", "/followers", "/following"):
                assert one.status("GET", f"/v1/users/{other.id}{tail}") == 404, tail
            assert one.status("PUT", f"/v1/me/following/{other.id}") == 404
            assert one.status("DELETE", f"/v1/me/following/{other.id}") == 404
        # Without a token both see what everybody sees.
        assert people.nobody.status("GET", f"/v1/users/{bob.id}") == 200

    @pytest.mark.parametrize("first", ["block", "follow"])
    def test_a_block_and_a_follow_at_the_same_time_leave_no_follow(
        self, first: str, people: People, make: Factory, contention: Contention
    ):
        ann, bob = people(), people()
        rows = {
            "block": "insert into blocks(blocker_id, blocked_id, id) values (%(bob)s, %(ann)s, gen_random_uuid())",
            "follow": "insert into follows(follower_id, followed_id, id) values (%(ann)s, %(bob)s, gen_random_uuid())",
        }
        second = {
            "block": lambda: ann.status("PUT", f"/v1/me/following/{bob.id}"),
            "follow": lambda: bob.status("PUT", f"/v1/me/blocks/{ann.id}"),
        }
        pair = lock_key("follows or blocks", " ".join(sorted((str(ann.id), str(bob.id)))))
        lock = "select pg_advisory_xact_lock(%(pair)s)"
        with contention.held(lock, rows[first], pair=pair, ann=ann.id, bob=bob.id):
            [answer] = contention.start(second[first])
        assert answer.result() == {"block": 404, "follow": 200}[first]
        assert make.value("select count(*) from blocks") == 1
        assert make.value("select count(*) from follows") == 0

    def test_it_ends_follows_both_ways(self, people: People):
        ann, bob = people(), people()
        ann.done("PUT", f"/v1/me/following/{bob.id}")
        bob.done("PUT", f"/v1/me/following/{ann.id}")
        bob.done("PUT", f"/v1/me/blocks/{ann.id}")
        bob.send("DELETE", f"/v1/me/blocks/{ann.id}")
        assert (counts(bob, ann), counts(ann, bob)) == ((0, 0), (0, 0))

    def test_what_each_says_and_likes_counts_for_others_only(self, people: People):
        ann, bob, cem = people(), people(), people()
        path = cem.post()["links"]["self"]
        for person in (ann, bob):
            person.done("PUT", f"{path}/like")
            person.done("POST", f"{path}/comments", {"body": "x"})
            person.done("PUT", f"/v1/me/following/{cem.id}")
        comment = bob.get(f"{path}/comments?fields=id,author_id,links")["data"][0]
        assert comment["author_id"] == str(bob.id)
        ann.done("PUT", f"/v1/me/blocks/{bob.id}")
        for person, seen in ((ann, 1), (bob, 1), (cem, 2), (people.nobody, 2)):
            post = person.get(f"{path}?include=comments")
            assert (post["likes_count"], post["comments_count"], len(post["comments"])) == (seen, seen, seen)
            assert person.get(f"{path}/likes")["meta"]["total"] == seen
            assert person.get(f"{path}/comments")["meta"]["total"] == seen
            assert person.get(f"/v1/users/{cem.id}")["followers_count"] == seen
        assert len(ann.ids(f"/v1/users/{cem.id}/followers")) == 1
        for method in ("GET", "PATCH", "DELETE"):
            assert ann.status(method, comment["links"]["self"], {"body": "y"}) == 404

    def test_nobody_is_appointed_by_somebody_whom_they_have_blocked(self, people: People, make: Factory):
        """The staff see what a store posts, whoever has written it."""
        owner, blocker, blocked = people(), people(), people()
        staff = f"/v1/stores/{make.store(owner.user).id}/staff"
        for person in (blocker, blocked):
            owner.done("PUT", f"{staff}/{person.id}", {"role": "support"})
        blocker.done("PUT", f"/v1/me/blocks/{owner.id}")
        owner.done("PUT", f"/v1/me/blocks/{blocked.id}")
        for person in (blocker, blocked):
            # Those who are there already stay until one of the two has had enough.
            owner.done("PUT", f"{staff}/{person.id}", {"role": "manager"})
            assert person.status("DELETE", f"{staff}/{person.id}") == 204
            assert owner.refused("PUT", f"{staff}/{person.id}", {"role": "support"})[:2] == (404, "not_found")

    def test_nobody_hides_a_comment_from_those_who_can_delete_it(self, people: People, make: Factory):
        """By blocking them: everybody else would see it, for as long as its author likes."""
        owner, author, support, troll, reader = (people() for _ in range(5))
        store = make.store(owner.user)
        make.staff(store, author.user, role="manager")
        make.staff(store, support.user)
        path = author.post(store_id=str(store.id))["links"]["self"]
        people.nobody.get(path)
        said = [troll.done("POST", f"{path}/comments", {"body": "x"})["links"]["self"] for _ in range(3)]
        for blocked in (owner, author, support, reader):
            troll.done("PUT", f"/v1/me/blocks/{blocked.id}")
        for left, moderator in zip((3, 2, 1), (owner, author, support), strict=True):
            post = moderator.get(f"{path}?include=comments.author")
            assert (post["comments_count"], len(post["comments"])) == (left, left)
            assert moderator.get(f"{path}/comments")["meta"]["total"] == left
            assert moderator.get(said[left - 1])["author_id"] == str(troll.id)
            assert moderator.status("PATCH", said[left - 1], {"body": "y"}) == 403
            assert moderator.status("DELETE", said[left - 1]) == 204
        # To others who have a block with its author it stays invisible, and so does its author to those who delete it.
        again = reader.post()["links"]["self"]
        assert troll.status("GET", again) == 404
        assert owner.status("GET", f"/v1/users/{troll.id}") == 404
        assert reader.get(path)["comments_count"] == people.nobody.get(path)["comments_count"] == 0

    def test_one_sees_whom_one_has_blocked_and_nobody_else_does(self, people: People):
        ann, bob = people(), people()
        block = ann.done("PUT", f"/v1/me/blocks/{bob.id}")
        assert ann.done("PUT", f"/v1/me/blocks/{bob.id}") == block
        assert [item["user_id"] for item in ann.get("/v1/me/blocks")["data"]] == [str(bob.id)]
        assert bob.get("/v1/me/blocks")["data"] == []
        # Who was blocked cannot tell that from somebody who is not there.
        assert bob.status("PUT", f"/v1/me/blocks/{ann.id}") == bob.status("DELETE", f"/v1/me/blocks/{ann.id}") == 404
        for _ in range(2):
            assert ann.status("DELETE", f"/v1/me/blocks/{bob.id}") == 204
        assert bob.status("GET", f"/v1/users/{ann.id}") == 200

    def test_nobody_blocks_themselves(self, people: People):
        ann = people()
        assert ann.refused("PUT", f"/v1/me/blocks/{ann.id}")[:2] == (409, "own_account")

    def test_as_many_as_one_may(self, people: People, monkeypatch: pytest.MonkeyPatch):
        ann = people()
        monkeypatch.setattr(relations, "MOST_BLOCKED", 1)
        statuses = [ann.refused("PUT", f"/v1/me/blocks/{people().id}")[:2] for _ in range(2)]
        assert statuses == [(200, ""), (422, "too_many_blocked")]
        assert len(ann.get("/v1/me/blocks")["data"]) == 1


@pytest.mark.one_server("what a viewer is a member of is read by a statement of its own")
def test_these_lists_are_one_statement_each(app: Flask, people: People, queries):
    ann, bob = people(), people()
    bob.done("PUT", f"/v1/me/following/{ann.id}")
    path = ann.post()["links"]["self"]
    bob.done("POST", f"{path}/comments", {"body": "x"})
    bob.done("PUT", f"{path}/like")
    for list_path in (
        "/v1/posts?include=author,store,comments.author",
        f"/v1/users/{ann.id}/posts?include=author",
        f"{path}/comments?include=author",
        f"{path}/likes?include=user",
        f"/v1/users/{ann.id}/followers",
        "/v1/me/blocks",
    ):
        bob.get("/v1/me")
        with queries() as seen:
            bob.get(list_path)
        assert len(seen) == 1, f"{list_path}\n{seen}"
