"""Posts: made, edited, published now or at a time, deleted; a person's own, and a store's."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.factory import Factory
from tests.payments.conftest import Work
from tests.social.conftest import People


def later(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def events_of(make: Factory, store: Any) -> list[tuple[str, dict[str, Any]]]:
    rows = make.rows("select type, data from events where store_id = %(id)s order by seq", {"id": store.id})
    return [(row.type, row.data) for row in rows]


class TestWriting:
    def test_a_post_as_it_was_written(self, people: People):
        ann = people()
        answer = ann.send("POST", "/v1/posts", {"title": "New wall", "body": "At seven.", "privacy": "public"})
        assert answer.status_code == 201
        post = answer.json or {}
        assert answer.headers["Location"] == post["links"]["self"] == f"/v1/posts/{post['id']}"
        assert people.nobody.get(post["links"]["self"]) == post | {"liked_by_me": None, "followed_by_me": None}
        assert post == post | {
            "author_id": str(ann.id),
            "store_id": None,
            "title": "New wall",
            "body": "At seven.",
            "privacy": "public",
            "package_ids": [],
            "status": "published",
            "publish_at": None,
            "likes_count": 0,
            "comments_count": 0,
            "liked_by_me": False,
            "followed_by_me": False,
            "version": 1,
        }
        assert post["published_at"] >= post["created_at"]

    def test_all_that_is_wrong_is_told_at_once(self, people: People):
        wrong = {"title": "a\nb", "body": " \n ", "privacy": "secret", "colour": "red"}
        status, code, pointers = people().refused("POST", "/v1/posts", wrong)
        assert (status, code) == (422, "validation")
        assert sorted(pointers) == ["#/body", "#/colour", "#/privacy", "#/title"]

    def test_an_edit_keeps_what_it_does_not_name(self, people: People):
        ann = people()
        post = ann.post(title="One", body="a", privacy="followers")
        changed = ann.done("PATCH", post["links"]["self"], {"body": "b"})
        assert changed == post | {"body": "b", "version": 2, "updated_at": changed["updated_at"]}
        assert ann.done("PATCH", post["links"]["self"], {"title": None, "body": "b"})["title"] is None
        assert ann.get(post["links"]["self"])["version"] == 3

    def test_an_edit_of_another_version_is_refused(self, people: People):
        ann = people()
        post = ann.post()
        answer = ann.send("PATCH", post["links"]["self"], {"body": "b"}, If_Match='"7.x"')
        assert answer.status_code == 412
        assert ann.send("DELETE", post["links"]["self"], If_Match='"7.x"').status_code == 412
        assert ann.send("PATCH", post["links"]["self"], {"body": "b"}, If_Match='"1.x"').status_code == 200

    def test_only_the_author_changes_a_post(self, people: People):
        ann, bob = people(), people()
        post = ann.post()["links"]["self"]
        secret = ann.post(privacy="private")["links"]["self"]
        assert bob.status("PATCH", post, {"body": "b"}) == bob.status("DELETE", post) == 403
        assert bob.status("PATCH", secret, {"body": "b"}) == bob.status("DELETE", secret) == 404
        assert ann.status("DELETE", post) == 204
        assert ann.status("GET", post) == ann.status("DELETE", post) == 404

    def test_what_hung_on_a_deleted_post_is_gone_too(self, people: People, make: Factory):
        ann, bob = people(), people()
        post = ann.post()["links"]["self"]
        bob.done("PUT", f"{post}/like")
        bob.done("POST", f"{post}/comments", {"body": "c"})
        assert ann.status("DELETE", post) == 204
        for table in ("posts", "likes", "comments", "post_stats"):
            assert make.rows(f"select 1 from {table}") == [], table


class TestStoresPosts:
    def test_managers_write_them_and_support_does_not(self, people: People, make: Factory):
        owner = people()
        store = make.store(owner.user)
        manager, support = people(), people()
        make.staff(store, manager.user, role="manager")
        make.staff(store, support.user, role="support")
        body = {"body": "x", "privacy": "members", "store_id": str(store.id)}
        assert support.refused("POST", "/v1/posts", body)[:2] == (403, "forbidden")
        assert people().refused("POST", "/v1/posts", body)[:2] == (403, "forbidden")
        post = manager.done("POST", "/v1/posts", body)
        assert post["store_id"] == str(store.id)
        path = post["links"]["self"]
        # Whoever wrote it: it is the store's.
        assert owner.done("PATCH", path, {"body": "y"})["author_id"] == str(manager.id)
        assert support.get(path)["body"] == "y"
        assert support.status("PATCH", path, {"body": "z"}) == support.status("DELETE", path) == 403
        assert owner.status("DELETE", path) == 204

    def test_who_has_left_the_staff_only_reads_what_they_wrote(self, people: People, make: Factory):
        manager, store = people(), make.store()
        make.staff(store, manager.user, role="manager")
        post = manager.post(store_id=str(store.id), privacy="members")["links"]["self"]
        make.rows("delete from store_staff where user_id = %(id)s", {"id": manager.id})
        assert manager.status("GET", post) == 200
        assert manager.status("PATCH", post, {"body": "y"}) == 403

    @pytest.mark.parametrize(
        ("fields", "faults"),
        [
            ({"privacy": "members"}, ["#/privacy"]),
            ({"privacy": "public", "package_ids": ["OURS"]}, ["#/package_ids"]),
            ({"store_id": "STORE", "privacy": "public", "package_ids": ["OURS"]}, ["#/package_ids"]),
            ({"store_id": "STORE", "privacy": "members", "package_ids": ["OURS", "THEIRS"]}, ["#/package_ids/1"]),
            ({"store_id": "THEIRS", "privacy": "public"}, ["#/store_id"]),
        ],
    )
    def test_whom_a_post_can_be_for(self, people: People, make: Factory, fields: dict[str, Any], faults: list[str]):
        owner = people()
        store = make.store(owner.user)
        names = {"STORE": store.id, "OURS": make.package(store).id, "THEIRS": make.package(make.store()).id}
        filled = {
            name: [str(names[v]) for v in value] if isinstance(value, list) else str(names.get(value, value))
            for name, value in fields.items()
        }
        assert owner.refused("POST", "/v1/posts", {"body": "x"} | filled) == (422, "validation", faults)

    def test_a_post_that_is_no_longer_for_members_has_no_tiers(self, people: People, make: Factory):
        owner = people()
        store = make.store(owner.user)
        gold = str(make.package(store).id)
        post = owner.post(store_id=str(store.id), privacy="members", package_ids=[gold, gold])
        assert post["package_ids"] == [gold]
        assert len(make.rows("select * from post_packages")) == 1
        assert owner.done("PATCH", post["links"]["self"], {"privacy": "public"})["package_ids"] == []
        assert make.rows("select * from post_packages") == []
        wrong = {"privacy": "public", "package_ids": [gold]}
        assert owner.refused("PATCH", post["links"]["self"], wrong)[0] == 422

    def test_a_token_bound_to_a_store_writes_that_stores_posts_only(self, people: People, make: Factory):
        owner = people()
        store, other = make.store(owner.user), make.store(owner.user)
        own = owner.post()
        theirs = owner.post(store_id=str(other.id), privacy="members")
        bound = people(owner.user, store=store)
        ours = bound.post(store_id=str(store.id), privacy="members")
        assert bound.done("PATCH", ours["links"]["self"], {"body": "y"})["body"] == "y"
        body = {"body": "x", "privacy": "public"}
        assert bound.refused("POST", "/v1/posts", body)[:2] == (403, "wrong_store")
        assert bound.refused("POST", "/v1/posts", body | {"store_id": str(other.id)})[:2] == (403, "wrong_store")
        # What is public it sees, as everybody does.
        assert bound.refused("PATCH", own["links"]["self"], {"body": "y"})[:2] == (403, "wrong_store")
        assert bound.status("GET", theirs["links"]["self"]) == 404
        assert bound.status("PATCH", theirs["links"]["self"], {"body": "y"}) == 404
        assert bound.ids("/v1/posts") == [ours["id"], own["id"]]


class TestPublishing:
    def test_a_draft_is_its_authors_until_it_is_published(self, people: People):
        ann, bob = people(), people()
        draft = ann.post(status="draft", body="one")
        first = ann.post(body="two")
        path = draft["links"]["self"]
        assert (draft["status"], draft["published_at"]) == ("draft", None)
        assert bob.status("GET", path) == 404
        lists = ("/v1/posts", f"/v1/users/{ann.id}/posts")
        assert [ann.ids(path) for path in lists] == [[first["id"]]] * 2
        assert [ann.ids(f"{path}?published=false") for path in lists] == [[draft["id"]]] * 2
        assert bob.ids("/v1/posts?published=false") == []
        assert ann.status("PUT", f"{path}/like") == 409
        assert ann.refused("POST", f"{path}/comments", {"body": "x"})[:2] == (409, "not_published")
        published = ann.done("PATCH", path, {"status": "published"})
        assert published["status"] == "published"
        # The newest now, though it was written first.
        assert bob.ids("/v1/posts") == [draft["id"], first["id"]]

    def test_what_is_published_stays_so(self, people: People):
        ann = people()
        path = ann.post()["links"]["self"]
        assert ann.refused("PATCH", path, {"status": "draft"})[:2] == (409, "invalid_transition")
        assert ann.refused("PATCH", path, {"publish_at": later(hours=1)})[:2] == (409, "invalid_transition")
        assert ann.done("PATCH", path, {"status": "published", "publish_at": None})["version"] == 1

    def test_at_its_time_a_job_publishes_it(self, people: People, work: Work, make: Factory):
        ann, bob = people(), people()
        at = later(hours=1)
        post = ann.post(publish_at=at)
        assert (post["status"], datetime.fromisoformat(post["publish_at"])) == ("scheduled", datetime.fromisoformat(at))
        work.drain()
        assert bob.status("GET", post["links"]["self"]) == 404
        newer = ann.post()
        work.hurry()
        assert bob.get(post["links"]["self"])["publish_at"] is None
        assert bob.ids("/v1/posts") == [post["id"], newer["id"]]
        [job] = make.rows("select * from jobs where kind = 'post.publish'")
        assert (job.status, job.owner_id) == ("succeeded", ann.id)

    def test_a_time_that_was_changed_or_taken_back_is_not_kept(self, people: People, work: Work, make: Factory):
        ann = people()
        moved, taken, gone = (ann.post(publish_at=later(hours=1))["links"]["self"] for _ in range(3))
        ann.done("PATCH", moved, {"publish_at": later(hours=2)})
        assert ann.done("PATCH", taken, {"publish_at": None})["status"] == "draft"
        ann.send("DELETE", gone)
        first = "(select min(run_at) from jobs where status = 'queued' and run_at > now())"
        make.rows(f"update jobs set run_at = now() where run_at < {first} + interval '30 minutes'")
        work.drain()
        assert [ann.get(path)["status"] for path in (moved, taken)] == ["scheduled", "draft"]
        work.hurry()
        assert [ann.get(path)["status"] for path in (moved, taken)] == ["published", "draft"]

    def test_a_time_has_to_come_yet(self, people: People):
        ann = people()
        body = {"body": "x", "privacy": "public"}
        for at in (later(minutes=-1), "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
            assert ann.refused("POST", "/v1/posts", body | {"publish_at": at})[::2] == (422, ["#/publish_at"])
        both = {"publish_at": later(minutes=1), "status": "draft"}
        assert ann.refused("POST", "/v1/posts", body | both)[2] == ["#/publish_at"]
        assert ann.refused("POST", "/v1/posts", body | {"publish_at": "2030-01-01T00:00:00"})[0] == 422


class TestEvents:
    def test_a_stores_posts_are_told_of(self, people: People, make: Factory, work: Work):
        owner, fan = people(), people()
        store = make.store(owner.user)
        post = owner.post(store_id=str(store.id), privacy="private", status="draft")
        path = post["links"]["self"]
        owner.done("PATCH", path, {"body": "b"})
        owner.done("PATCH", path, {"publish_at": later(hours=1), "privacy": "public"})
        assert events_of(make, store) == []
        work.hurry()
        owner.done("PATCH", path, {"body": "c"})
        owner.done("PATCH", path, {"body": "c"})
        comment = fan.done("POST", f"{path}/comments", {"body": "d"})
        assert owner.status("DELETE", path) == 204
        seen = events_of(make, store)
        told = ["post.published", "post.updated", "comment.created", "post.deleted"]
        assert [event_type for event_type, _ in seen] == told
        assert seen[0][1].items() >= {"id": post["id"], "status": "published", "body": "b"}.items()
        assert seen[2][1] == comment
        assert seen[3][1]["body"] == "c"

    def test_a_persons_own_are_not(self, people: People, make: Factory):
        ann = people()
        make.store(ann.user)
        path = ann.post()["links"]["self"]
        people().done("POST", f"{path}/comments", {"body": "d"})
        ann.done("PATCH", path, {"body": "c"})
        ann.send("DELETE", path)
        assert make.rows("select 1 from events") == []

    def test_a_long_post_is_told_of_by_its_links_alone(self, people: People, make: Factory):
        owner = people()
        store = make.store(owner.user)
        post = owner.post(store_id=str(store.id), body="é" * 20_000)
        owner.send("DELETE", post["links"]["self"])
        assert [data for _, data in events_of(make, store)] == [{"id": post["id"], "links": post["links"]}] * 2


@pytest.mark.parametrize("made", [("POST", "comments", {"body": "x"}), ("PUT", "like", None)], ids=["comment", "like"])
def test_a_post_that_goes_with_what_was_counted_in_one_batch_is_gone(
    client: FlaskClient, make: Factory, made: tuple[str, str, object]
) -> None:
    author = make.user()
    method, below, body = made
    operations: list[dict[str, object]] = [
        {"id": "a", "method": "POST", "path": "/v1/posts", "body": {"title": "T", "body": "B", "privacy": "public"}},
        {"id": "b", "method": method, "path": f"/v1/posts/$a.id/{below}"},
        {"id": "c", "method": "DELETE", "path": "/v1/posts/$a.id"},
    ]
    if body:
        operations[1]["body"] = body
    asked = {"atomic": True, "operations": operations}
    answer = client.post("/v1/batch", json=asked, headers=make.auth(author))
    assert answer.status_code == 200, answer.text
    assert make.value("select count(*) from posts") == 0
