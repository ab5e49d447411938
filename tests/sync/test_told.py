"""Who is told that a row is gone: those who may have seen it, and nobody else."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Made
from typing import Any

import pytest
from flask import Flask

from dues.sync.moved import Watch, find_moved
from tests.factory import Factory
from tests.sync.conftest import MakeDevice
from tests.sync.device import Device

# Of a store's posts those that a member with the package Gold may not see.
NEVER_SHOWN: dict[str, dict[str, Any]] = {
    "a draft": {"status": "draft", "privacy": "public"},
    "a draft for members": {"status": "draft", "privacy": "members"},
    "scheduled": {"status": "scheduled", "privacy": "members", "publish_at": datetime.now(UTC) + timedelta(days=9)},
    "private": {"privacy": "private"},
    "for followers": {"privacy": "followers"},
    "for other members": {"privacy": "members", "package_ids": ["silver"]},
}
CHANGE = "update posts set body = 'Changed', version = version + 1 where id = %(id)s returning id"
DELETE = "delete from posts where id = %(id)s returning id"


class Club:
    """A store with two packages, whose owner posts."""

    def __init__(self, make: Factory, store: Made, owner: Made) -> None:
        self.make, self._store, self._owner = make, store, owner
        self.packages = {name: make.package(store, name=name) for name in ("gold", "silver")}

    def post(self, **columns: Any) -> Made:
        """Published with all that is said of it at once."""
        ids, status = (
            [self.packages[name].id for name in columns.pop("package_ids", [])],
            columns.pop("status", "published"),
        )
        is_late = bool(ids) and status == "published"
        made = "draft" if is_late else status
        post = self.make.post(self._owner, store=self._store, package_ids=ids, status=made, **columns)
        if is_late:
            publish = "update posts set status = 'published', published_at = now() where id = %(id)s returning id"
            self.make.rows(publish, {"id": post.id})
        return post

    def change(self, post: Made, **columns: Any) -> None:
        ids = [str(self.packages[name].id) for name in columns.pop("package_ids", [])]
        self.make.rows(
            "update posts set privacy = %(privacy)s, package_ids = %(ids)s::uuid[], version = version + 1"
            " where id = %(id)s returning id",
            {"id": post.id, "ids": ids, **columns},
        )


@pytest.fixture
def club(make: Factory, store: Made, owner: Made, member: Made) -> Club:
    club = Club(make, store, owner)
    make.subscription(store, member, package=club.packages["gold"])
    return club


@pytest.mark.parametrize("name", NEVER_SHOWN)
def test_nobody_hears_of_what_they_never_saw(
    app: Flask, club: Club, device: Device, device_of: MakeDevice, member: Made, owner: Made, name: str
) -> None:
    """Neither the post nor that it was changed, nor that it is gone; and nobody who waits is woken by it."""
    author = device_of(owner)
    device.sync(), author.sync()
    base = club.make.value("select pg_current_snapshot()::text")
    post = club.post(**NEVER_SHOWN[name])
    for change in (None, CHANGE, DELETE):
        if change:
            club.make.rows(change, {"id": post.id})
        assert device.ask()["changes"] == []
        with app.app_context():
            assert find_moved([Watch(member.id, None, ("post",), base)]) == set()
            assert find_moved([Watch(owner.id, None, ("post",), base)]) == {0}
        # Its author hears all of it.
        applied = author.applied
        author.sync()
        assert author.applied == applied + 1


GONE: dict[str, list[dict[str, Any]]] = {
    # What a post is one after the other; the client, which has Gold, asks only in the end.
    "made private": [{"privacy": "public"}, {"privacy": "private"}],
    "for all, for others, and private": [
        {"privacy": "members"},
        {"privacy": "members", "package_ids": ["silver"]},
        {"privacy": "private"},
    ],
    "for others, for all, and for others": [
        {"privacy": "members", "package_ids": ["silver"]},
        {"privacy": "members"},
        {"privacy": "members", "package_ids": ["silver"]},
    ],
    "for others, and for its own": [
        {"privacy": "members", "package_ids": ["silver"]},
        {"privacy": "members", "package_ids": ["gold"]},
        {"privacy": "followers"},
    ],
}


@pytest.mark.parametrize("name", GONE)
@pytest.mark.parametrize("asks_between", [True, False])
def test_whoever_may_have_seen_it_hears_that_it_is_gone(
    club: Club, device: Device, name: str, asks_between: bool
) -> None:
    first, *later = GONE[name]
    device.sync()
    post = club.post(**first)
    for state in later:
        if asks_between:
            device.sync()
        club.change(post, **state)
    answer = device.ask()
    assert [(change["id"], change["op"]) for change in answer["changes"]] == [(str(post.id), "delete")]
    device.apply(answer)
    assert device.of("post") == {}
    # And so does it stay, once it is deleted.
    club.make.rows(DELETE, {"id": post.id})
    assert [change["op"] for change in device.ask()["changes"]] == ["delete"]


def test_a_token_of_a_store_hears_nothing_of_others(
    club: Club, device_of: MakeDevice, make: Factory, store: Made, member: Made, owner: Made
) -> None:
    """Of what is the user's own: payments, subscriptions, posts, and what they said and liked."""
    device, other = device_of(member, store=store), make.store()
    device.sync()
    elsewhere = make.post(owner)
    payment, post = make.payment(other, member), make.post(member, privacy="private")
    comment = make.comment(elsewhere, member)
    make.subscription(other, member), make.like(elsewhere, member)
    assert device.ask()["changes"] == []
    for table, row in (("payments", payment), ("posts", post), ("comments", comment)):
        make.rows(f"update {table} set version = version + 1 where id = %(id)s returning id", {"id": row.id})
    make.rows(
        "delete from posts where id = any(%(ids)s::uuid[]) returning id", {"ids": [str(post.id), str(elsewhere.id)]}
    )
    assert device.ask()["changes"] == []
    # Of the store's own it hears, also when a post takes along what was said about it.
    here = club.post(privacy="members")
    make.payment(store, member), make.comment(here, member), make.like(here, member)
    device.sync()
    assert {name for name, _ in device.rows} >= {"payment", "comment", "like", "post"}
    make.rows(DELETE, {"id": here.id})
    gone = {(change["type"], change["op"]) for change in device.ask()["changes"]}
    assert gone == {("post", "delete"), ("comment", "delete"), ("like", "delete")}
