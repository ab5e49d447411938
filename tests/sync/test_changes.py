"""What is told of changes: all of them and nothing else, a page at a time, to whoever may see the rows."""

from datetime import UTC, datetime
from types import SimpleNamespace as Made
from typing import Any

import psycopg2
import pytest
import ujson
from flask import Flask
from flask.testing import FlaskClient
from msgspec.structs import replace

from dues.ids import new_id
from dues.postgres import transaction
from dues.sync import changes
from dues.sync.cursor import read, write
from dues.sync.operations import delete_expired_tombstones
from dues.sync.types import TYPES
from tests.factory import Factory
from tests.recorder import QueryRecorder
from tests.servers import Servers
from tests.sync.conftest import Get, MakeDevice
from tests.sync.device import Device, op


def test_a_member_is_told_of_their_own_rows_and_of_their_stores(device: Device, life: None, member: Made) -> None:
    device.sync()
    assert {name: len(device.of(name)) for name in TYPES} == {
        "address": 1, "comment": 1, "follow": 1, "like": 1, "me": 1, "package": 2, "payment": 2, "post": 4,
        "subscription": 1,
    }  # fmt: skip
    bodies = {row["body"] for row in device.of("post").values()}
    assert bodies == {"For members", "For gold", "For all", "Mine"}
    assert device.of("me").keys() == {str(member.id)}


def test_staff_are_told_of_all_that_is_their_store_s(
    device_of: MakeDevice, life: None, make: Factory, store: Made
) -> None:
    support = make.staff(store)
    device = device_of(Made(id=support.user_id))
    device.sync()
    found = {name: len(rows) for name in TYPES if (rows := device.of(name))}
    assert found == {"me": 1, "package": 2, "payment": 2, "post": 7, "subscription": 1}


def test_rows_are_as_a_get_answers_them(
    device: Device, life: None, client: FlaskClient, make: Factory, member: Made
) -> None:
    device.sync()
    auth = make.auth(member)
    for name, path in {
        "address": "/v1/me/addresses",
        "payment": "/v1/me/payments",
        "subscription": "/v1/me/subscriptions",
    }.items():
        listed = ujson.loads(client.get(path, headers=auth).data)["data"]
        assert {row["id"]: row for row in listed} == device.of(name), name
    assert ujson.loads(client.get("/v1/me", headers=auth).data) == device.of("me")[str(member.id)]
    for row in device.of("post").values():
        shown = ujson.loads(client.get(row["links"]["self"], headers=auth).data)
        # Counts are of others; whether one likes it oneself is a row of its own.
        assert {name: shown[name] for name in row} == row
    for name in ("comment", "package"):
        for row in device.of(name).values():
            assert ujson.loads(client.get(row["links"]["self"], headers=auth).data) == row
    for row in device.of("like").values():
        assert (row["user_id"], row["post_id"]) == (str(member.id), next(iter(device.of("like"))))


@pytest.mark.parametrize("limit", [1, 3])
def test_pages_come_to_what_a_fresh_download_is(
    device_of: MakeDevice, life: None, make: Factory, store: Made, member: Made, limit: int
) -> None:
    """While others write between the pages."""
    device = device_of(member, limit=limit)
    posts = [make.post(member, body=f"Post {n}") for n in range(5)]
    for n in range(40):
        answer = device.ask()
        device.apply(answer)
        if n < 12:
            make.rows("update posts set version = version + 1 where id = %(id)s returning id", {"id": posts[n % 5].id})
            make.payment(store, member)
            if n % 3 == 0:
                make.rows("delete from posts where id = %(id)s returning id", {"id": make.post(member).id})
                make.rows("delete from posts where id = %(id)s returning id", {"id": posts[n // 3].id})
    fresh = device_of(member)
    fresh.sync(), device.sync()
    assert device.rows == fresh.rows
    assert len(device.of("payment")) == 14


def test_what_commits_late_is_not_passed_over(servers: Servers, device: Device, make: Factory, member: Made) -> None:
    """A transaction that began to write before others, which were told of already."""
    slow = psycopg2.connect(servers.database_url)
    try:
        with slow.cursor() as cursor:
            cursor.execute(
                "insert into addresses(user_id, id, label, line1, city, country, is_default)"
                " values (%s, %s, 'Late', '1', 'Leeds', 'GB', false)",
                (str(member.id), str(new_id())),
            )
            make.address(member, label="Early")
            device.sync()
            device.sync()
            assert [row["label"] for row in device.of("address").values()] == ["Early"]
            slow.commit()
    finally:
        slow.close()
    device.sync()
    assert sorted(row["label"] for row in device.of("address").values()) == ["Early", "Late"]


def test_what_is_rolled_back_is_not_told(servers: Servers, device: Device, member: Made) -> None:
    with psycopg2.connect(servers.database_url) as rolled_back, rolled_back.cursor() as cursor:
        cursor.execute("update users set name = 'Nobody' where id = %s", (str(member.id),))
        rolled_back.rollback()
    device.sync()
    assert device.of("me")[str(member.id)]["name"] == member.name


def test_nothing_new_is_one_statement(device: Device, life: None, get: Get, queries: QueryRecorder) -> None:
    device.sync()
    cursor = get()[1]["cursor"]
    for _ in range(3):
        with queries() as seen:
            status, page = get(cursor=cursor)
        assert (status, page["changes"], page["has_more"], page["reset"]) == (200, [], False, [])
        cursor = page["cursor"]
    assert len(seen) == 1, str(seen)


def test_a_page_takes_a_statement_for_each_type_in_it(get: Get, life: None, queries: QueryRecorder) -> None:
    get()
    with queries() as seen:
        _, page = get()
    # Whose token it is may not be kept yet.
    found = [statement for statement in seen if "token_hash" not in statement]
    # Two to find what there is: at first nothing is known of what decides over it.
    assert len(found) == 2 + len({change["type"] for change in page["changes"]}), str(seen)


def test_an_echo_is_known_by_its_operation(device: Device, make: Factory, member: Made) -> None:
    write = op("POST", "/v1/posts", {"body": "One", "privacy": "public"})
    answer = device.ask(write)
    (mine,) = [change for change in answer["changes"] if change["type"] == "post"]
    assert (mine["by_op"], mine["version"], mine["op"]) == (write["id"], 1, "put")
    device.apply(answer)
    make.rows("update posts set body = 'Two', version = 2 returning id")
    (theirs,) = device.ask()["changes"]
    assert (theirs["by_op"], theirs["version"], theirs["data"]["body"]) == (None, 2, "Two")


def test_many_changes_of_a_row_are_told_as_one(device: Device, make: Factory, member: Made) -> None:
    device.sync()
    post = make.post(member)
    for n in range(5):
        make.rows("update posts set version = %(n)s where id = %(id)s returning id", {"n": n + 2, "id": post.id})
    assert [change["version"] for change in device.ask()["changes"]] == [6]


def test_a_page_is_of_a_megabyte_or_so(device: Device, make: Factory, member: Made) -> None:
    for n in range(45):
        make.post(member, body=f"{n}".zfill(50_000))
    sizes = []
    while True:
        answer = device.ask()
        sizes.append(sum(len(ujson.dumps(change)) for change in answer["changes"]))
        device.apply(answer)
        if not answer["has_more"]:
            break
    assert len(device.of("post")) == 45
    assert max(sizes) < 1_200_000
    assert len(sizes) < 5


def test_what_is_deleted_is_told_once(device: Device, make: Factory, member: Made, device_of: MakeDevice) -> None:
    post = make.post(member)
    make.comment(post, member), make.like(post, member)
    device.sync()
    make.rows("delete from posts where id = %(id)s returning id", {"id": post.id})
    page = device.ask()
    assert {(change["type"], change["op"]) for change in page["changes"]} == {
        ("post", "delete"), ("comment", "delete"), ("like", "delete")
    }  # fmt: skip
    assert all(change["data"] is None for change in page["changes"])
    assert {change["version"] for change in page["changes"] if change["type"] != "like"} == {2}
    device.apply(page)
    assert device.ask()["changes"] == []
    # A client that begins now is not told of what it never had.
    assert [change["type"] for change in device_of(member).ask()["changes"]] == ["me"]


def test_likes_that_come_and_go(device: Device, make: Factory, owner: Made) -> None:
    path = f"/v1/posts/{make.post(owner).id}/like"
    for method, count in (("PUT", 1), ("DELETE", 0), ("PUT", 1), ("DELETE", 0)):
        device.sync(op(method, path))
        assert len(device.of("like")) == count


# Cursors: too old, tampered with, another's


@pytest.mark.parametrize(("days", "status"), [(89, 200), (91, 410)])
def test_a_cursor_is_good_for_90_days(
    app: Flask, device: Device, get: Get, member: Made, make: Factory, days: int, status: int
) -> None:
    with app.app_context():
        cursor = read(get()[1]["cursor"], member.id)
        assert cursor
        old = write(replace(cursor, since=cursor.since - days * 86_400), member.id)
    answered, document = get(cursor=old)
    assert (answered, document.get("code")) == (status, "cursor_expired" if status == 410 else None)
    # Nothing is done by a request that is told to begin anew; what it wanted to send is sent then.
    device.cursor, write_post = old, op("POST", "/v1/posts", {"body": "Kept", "privacy": "public"})
    if status == 410:
        with pytest.raises(AssertionError, match="cursor_expired"):
            device.sync(write_post)
        assert make.value("select count(*) from posts") == 0
        device.cursor = None
    assert device.sync(write_post)[0]["status"] == 201
    assert len(device.of("post")) == 1


def test_tombstones_are_kept_for_as_long_as_somebody_may_not_have_heard(
    app: Flask, device: Device, make: Factory, member: Made
) -> None:
    make.rows("delete from posts where id = %(id)s returning id", {"id": make.post(member).id})
    gone = "select count(*) from sync_changes where gone_at is not null"
    # A day longer than a cursor is good, since a transaction may last.
    for days, left in ((90.5, 1), (91.5, 0)):
        make.rows(
            "update sync_changes set gone_at = now() - %(days)s * interval '1 day' where type = 'post' returning id",
            {"days": days},
        )
        with app.app_context(), transaction():
            delete_expired_tombstones()
        assert make.value(gone) == left


def test_a_cursor_is_good_for_its_user_as_it_was_given(get: Get, make: Factory, owner: Made) -> None:
    cursor = get()[1]["cursor"]
    flipped = cursor[:30] + ("A" if cursor[30] != "A" else "B") + cursor[31:]
    for bad in ("x", cursor[:-1], cursor + "A", flipped, cursor + "=", "-1", "9" * 400, "é"):
        status, problem = get(cursor=bad)
        assert (status, problem["errors"][0]["parameter"]) == (400, "cursor"), bad
    assert get(make.auth(owner), cursor=cursor)[0] == 400
    assert get(cursor=cursor)[0] == 200


def test_what_is_wrong_with_a_pull(client: FlaskClient, make: Factory, member: Made) -> None:
    auth = make.auth(member)
    wrong = "limit=0 limit=-1 limit=501 limit=x limit=%D9%A3 types= types=post,store colour=red limit=1&limit=2".split()
    for query in wrong:
        answer = client.get(f"/v1/sync?{query}", headers=auth)
        parameter = query.partition("=")[0]
        assert (answer.status_code, ujson.loads(answer.data)["errors"][0]["parameter"]) == (400, parameter), query


def test_more_types_are_told_from_their_beginning(get: Get, life: None) -> None:
    _, few = get(types="payment")
    assert {change["type"] for change in few["changes"]} == {"payment"}
    _, more = get(cursor=few["cursor"], types="payment,address")
    assert ({change["type"] for change in more["changes"]}, more["reset"]) == ({"address"}, ["address"])
    # Without types, those of the cursor.
    assert get(cursor=few["cursor"])[1]["changes"] == []


def test_a_user_who_is_removed_has_no_cursor(get: Get, make: Factory, member: Made) -> None:
    cursor = get()[1]["cursor"]
    make.rows(
        "update users set deleted_at = %(at)s where id = %(id)s returning id",
        {"at": datetime.now(UTC), "id": member.id},
    )
    assert get(cursor=cursor)[0] == 401


def test_a_database_that_was_put_back_is_noticed(get: Get, monkeypatch: Any) -> None:
    cursor = get()[1]["cursor"]
    real = "select case when not pg_is_in_recovery() then pg_current_snapshot()::text end,"
    monkeypatch.setattr(changes, "_LOOK", changes._LOOK.replace(real, "select '3:3:',"))
    status, problem = get(cursor=cursor)
    assert (status, problem["code"]) == (410, "cursor_expired")
