"""What others make of a post: comments and likes, and how they are counted."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask

from tests.contention import Contention
from tests.factory import Factory
from tests.social.conftest import People, Person


def counts(person: Person, path: str) -> tuple[int, int]:
    post = person.get(path)
    return post["comments_count"], post["likes_count"]


class TestComments:
    def test_newest_first_with_their_authors(self, people: People):
        ann, bob = people(), people()
        path = ann.post()["links"]["self"]
        first = bob.done("POST", f"{path}/comments", {"body": "one"})
        second = ann.done("POST", f"{path}/comments", {"body": "two"})
        found = people.nobody.get(f"{path}/comments?include=author&fields=id,body,author.name")
        assert found["data"] == [
            {"id": second["id"], "body": "two", "author": {"name": ann.user.name}},
            {"id": first["id"], "body": "one", "author": {"name": bob.user.name}},
        ]
        assert people.nobody.get(first["links"]["self"]) == first
        assert counts(ann, path) == (2, 0)
        with_comments = ann.get(f"{path}?include=comments&fields=comments.body")
        assert with_comments == {"comments": [{"body": "two"}, {"body": "one"}]}

    def test_of_another_post_is_not_there(self, people: People):
        ann = people()
        one, other = ann.post()["links"]["self"], ann.post()["links"]["self"]
        comment = ann.done("POST", f"{one}/comments", {"body": "x"})
        for method in ("GET", "PATCH", "DELETE"):
            assert ann.status(method, f"{other}/comments/{comment['id']}", {"body": "y"}) == 404

    def test_is_changed_by_its_author_alone(self, people: People, make: Factory):
        ann, bob = people(), people()
        path = ann.post()["links"]["self"]
        comment = bob.done("POST", f"{path}/comments", {"body": "x"})["links"]["self"]
        assert ann.status("PATCH", comment, {"body": "y"}) == 403
        assert bob.send("PATCH", comment, {"body": "y"}, If_Match='"9"').status_code == 412
        changed = bob.done("PATCH", comment, {"body": "y"})
        assert (changed["body"], changed["version"]) == ("y", 2)
        assert bob.done("PATCH", comment, {"body": "y"})["version"] == 2
        assert bob.refused("PATCH", comment, {"body": "  "})[2] == ["#/body"]

    def test_is_deleted_by_its_author_the_posts_and_the_staff(self, people: People, make: Factory):
        owner, support, ann, bob = people(), people(), people(), people()
        store = make.store(owner.user)
        make.staff(store, support.user, role="support")
        make.staff(store, ann.user, role="manager")
        path = ann.post(store_id=str(store.id))["links"]["self"]
        for who in (bob, ann, support, owner):
            comment = bob.done("POST", f"{path}/comments", {"body": "x"})["links"]["self"]
            assert people().status("DELETE", comment) == 403
            assert who.status("DELETE", comment) == 204
            assert bob.status("GET", comment) == bob.status("DELETE", comment) == 404
        assert counts(ann, path) == (0, 0)


class TestLikes:
    def test_once_each_however_often(self, people: People):
        ann, bob = people(), people()
        path = ann.post()["links"]["self"]
        like = bob.done("PUT", f"{path}/like")
        assert bob.done("PUT", f"{path}/like") == like
        assert (like["user_id"], like["post_id"]) == (str(bob.id), path.rpartition("/")[2])
        ann.done("PUT", f"{path}/like")
        assert counts(bob, path) == (0, 2)
        assert [bob.get(path)["liked_by_me"], people().get(path)["liked_by_me"]] == [True, False]
        assert [item["user_id"] for item in people.nobody.get(f"{path}/likes")["data"]] == [str(ann.id), str(bob.id)]
        assert bob.status("DELETE", f"{path}/like") == bob.status("DELETE", f"{path}/like") == 204
        assert counts(bob, path) == (0, 1)
        assert bob.get(path)["liked_by_me"] is False

    def test_who_likes_can_be_shown_in_full(self, people: People):
        ann, bob = people(), people()
        path = ann.post()["links"]["self"]
        bob.done("PUT", f"{path}/like")
        ann.done("PUT", f"/v1/me/following/{bob.id}")
        [item] = ann.get(f"{path}/likes?include=user&fields=user.name,user.followed_by_me")["data"]
        assert item == {"user": {"name": bob.user.name, "followed_by_me": True}}

    def test_many_at_once_are_counted_one_by_one(self, app: Flask, make: Factory, people: People):
        post = make.post(make.user())
        paths = [f"/v1/posts/{post.id}/like"] * 3 + [f"/v1/posts/{make.post(make.user()).id}/like"]
        auths = [make.auth(make.user()) for _ in range(8)]

        def click(auth: dict[str, str]) -> list[int]:
            methods = ("PUT", "PUT", "DELETE", "PUT")
            return [
                app.test_client().open(path, method=method, headers=auth).status_code
                for path, method in zip(paths, methods, strict=True)
            ]

        with ThreadPoolExecutor(4) as pool:
            # Everybody twice at the same time.
            answers = [status for done in pool.map(click, auths * 2) for status in done]
        assert set(answers) <= {200, 204}
        reader = people()
        for row in make.rows("select post_id, count(*) as likes from likes group by post_id"):
            assert reader.get(f"/v1/posts/{row.post_id}")["likes_count"] == row.likes


@pytest.mark.parametrize("token", [{}, {"scopes": ["social:read"]}])
def test_without_the_scope_nobody_writes(people: People, make: Factory, token: dict[str, Any]):
    person = people(**token) if token else people.nobody
    post = make.post(make.user())
    assert {
        person.status("PUT", f"/v1/posts/{post.id}/like"),
        person.status("POST", f"/v1/posts/{post.id}/comments", {"body": "x"}),
    } == {403 if token else 401}


class TestAtTheSameTime:
    def test_nobody_waits_for_the_numbers_of_a_post(self, people: People, contention: Contention):
        ann, bob = people(), people()
        path = ann.post()["links"]["self"]

        def respond(*methods: str) -> list[int]:
            for method in methods:
                bob.done(method, f"{path}/like")
            bob.done("POST", f"{path}/comments", {"body": "x"})
            post = ann.get(path)
            return [post["likes_count"], post["comments_count"]]

        with contention.held("select from post_stats where post_id = %(id)s for update", id=path.rpartition("/")[2]):
            assert respond("PUT") == [1, 1]
            assert respond("DELETE", "PUT", "DELETE", "PUT") == [1, 2]
        assert respond("DELETE") == [0, 3]
        with contention.held("select from post_stats where post_id = %(id)s for update", id=path.rpartition("/")[2]):
            assert respond("PUT", "DELETE") == [0, 4]

    @pytest.mark.parametrize(("method", "tail"), [("PUT", "/like"), ("POST", "/comments")])
    def test_what_comes_just_after_the_post_was_deleted_finds_none(
        self, method: str, tail: str, people: People, contention: Contention
    ):
        ann, bob = people(), people()
        post = ann.post()
        body = {"body": "x"} if tail == "/comments" else None
        with contention.held("delete from posts where id = %(id)s", id=post["id"]):
            [answer] = contention.start(lambda: bob.refused(method, post["links"]["self"] + tail, body))
        assert answer.result()[:2] == (404, "not_found")

    @pytest.mark.parametrize(
        ("path", "taken_back"),
        [
            ("{post}/like", "delete from likes where user_id = %(bob)s"),
            ("/v1/me/following/{ann}", "delete from follows where follower_id = %(bob)s"),
        ],
    )
    def test_what_is_put_again_while_it_is_taken_back_is_there(
        self, path: str, taken_back: str, people: People, contention: Contention
    ):
        ann, bob = people(), people()
        path = path.format(post=ann.post()["links"]["self"], ann=ann.id)
        bob.done("PUT", path)
        with contention.held(taken_back, bob=bob.id):
            [answer] = contention.start(lambda: bob.status("PUT", path))
        assert answer.result() == 200
