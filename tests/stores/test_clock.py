"""The clocks of test stores: where they stand, how they are moved, and what waits meanwhile."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from werkzeug.test import TestResponse

from dues.clock import now, store_now
from dues.postgres import transaction
from dues.stores.clock import require_still
from tests.contention import Contention
from tests.factory import Factory
from tests.payments.conftest import Shop, Work, in_app, shop, work
from tests.servers import Servers

__all__ = ["in_app", "shop", "work"]


@pytest.fixture
def test_shop(shop: Shop, make: Factory) -> Shop:
    """A shop whose store is a test store."""
    shop.store = make.store(shop.owner, test=True)
    return shop


def clock_path(shop: Shop) -> str:
    return f"/v1/stores/{shop.store.id}/clock"


def move(shop: Shop, to: Any, auth: dict[str, str] | None = None) -> TestResponse:
    body = {"now": to.isoformat() if isinstance(to, datetime) else to}
    return shop.client.put(clock_path(shop), json=body, headers=auth or shop.owner_auth)


def code(answer: TestResponse) -> tuple[int, str]:
    assert answer.mimetype == "application/problem+json", answer.text
    return answer.status_code, (answer.json or {})["code"]


def test_a_test_store_is_one_from_the_beginning(shop: Shop, make: Factory) -> None:
    answer = shop.client.post(
        "/v1/stores", json={"name": "Try", "currency": "EUR", "test": True}, headers=shop.owner_auth
    )
    assert answer.status_code == 201
    store = answer.json or {}
    assert store["test"] is True
    changed = shop.client.patch(store["links"]["self"], json={"test": False}, headers=shop.owner_auth)
    assert changed.status_code == 422
    clock = shop.get(f"{store['links']['self']}/clock", shop.owner_auth)
    assert datetime.fromisoformat(clock["now"]) - now() < timedelta(minutes=1)
    assert clock["advancing_to"] is None


def test_it_stands_still_until_it_is_moved(test_shop: Shop, work: Work, in_app: Any) -> None:
    before = store_now(test_shop.store.id)
    assert store_now(test_shop.store.id) == before
    goal = before + timedelta(days=400, microseconds=1)
    answer = move(test_shop, goal)
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    clock = answer.json or {}
    assert (datetime.fromisoformat(clock["now"]), datetime.fromisoformat(clock["advancing_to"])) == (before, goal)
    assert answer.headers["Location"] == clock["links"]["job"]
    assert store_now(test_shop.store.id) == before
    work.drain()
    job = test_shop.job(clock["links"]["job"])
    assert (job.status, job.result["href"]) == ("succeeded", clock_path(test_shop))
    clock = test_shop.get(clock_path(test_shop), test_shop.owner_auth)
    assert (datetime.fromisoformat(clock["now"]), clock["advancing_to"]) == (goal, None)
    assert store_now(test_shop.store.id) == goal


def test_X2_it_is_never_set_back_and_a_real_store_has_none(test_shop: Shop, shop: Shop, work: Work) -> None:
    later = datetime(2100, 1, 1, tzinfo=UTC)
    assert move(test_shop, later).status_code == 202
    work.drain()
    assert code(move(test_shop, later - timedelta(microseconds=1))) == (409, "clock_set_back")
    assert move(test_shop, later).status_code == 202
    test_shop.store = test_shop.make.store(test_shop.owner)
    assert code(move(test_shop, later)) == (409, "not_a_test_store")
    assert shop.client.get(clock_path(test_shop), headers=shop.owner_auth).status_code == 404


def test_X4_other_stores_and_the_real_time_are_untouched(
    test_shop: Shop, work: Work, make: Factory, in_app: Any
) -> None:
    other, real = make.store(test_shop.owner, test=True), make.store(test_shop.owner)
    before = store_now(other.id)
    move(test_shop, "2100-01-01T00:00:00Z")
    work.drain()
    assert store_now(other.id) == before
    assert now() <= store_now(real.id) <= now()


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-01-01", (422, "validation")),
        ("2027-01-01T00:00:00", (422, "validation")),
        ("3000-01-01T00:00:00Z", (422, "validation")),
        ("9999-12-31T23:59:59-23:59", (422, "validation")),
        ("0001-01-01T00:00:00+23:59", (422, "validation")),
        ("1970-01-01T20:00:00+20:00", (409, "clock_set_back")),
        (1893456000, (422, "validation")),
    ],
)
def test_what_is_no_time_to_move_to_is_refused(test_shop: Shop, time: Any, expected: tuple[int, str]) -> None:
    assert code(move(test_shop, time)) == expected


def test_offsets_of_any_size_are_times(test_shop: Shop, work: Work) -> None:
    assert move(test_shop, "2100-01-01T00:00:00+23:59").status_code == 202
    work.drain()
    assert test_shop.get(clock_path(test_shop), test_shop.owner_auth)["now"] == "2099-12-31T00:01:00.000000+00:00"


def test_while_it_moves_nothing_else_is_written(test_shop: Shop, work: Work, make: Factory) -> None:
    move(test_shop, "2100-01-01T00:00:00Z")
    store = f"/v1/stores/{test_shop.store.id}"
    package = {"name": "Gold", "amount": 1, "interval": "once"}
    refused = [
        test_shop.client.post(f"{store}/packages", json=package, headers=test_shop.owner_auth),
        test_shop.client.patch(store, json={"name": "New"}, headers=test_shop.owner_auth),
        test_shop.post(test_shop.path, {"payment_method": "sandbox_ok", "amount": 1, "currency": "EUR"}),
        move(test_shop, "2100-01-02T00:00:00Z"),
    ]
    assert [code(answer) for answer in refused] == [(409, "clock_advancing")] * 4
    # What would have been refused anyway is refused for that.
    assert test_shop.client.post(f"{store}/packages", json={}, headers=test_shop.owner_auth).status_code == 422
    assert test_shop.client.post(f"{store}/packages", json=package, headers=test_shop.auth).status_code == 403
    assert make.value("select count(*) from packages") + make.value("select count(*) from payments") == 0
    elsewhere = make.store(test_shop.owner)
    answer = test_shop.client.post(f"/v1/stores/{elsewhere.id}/packages", json=package, headers=test_shop.owner_auth)
    assert answer.status_code == 201
    work.drain()
    assert test_shop.client.post(f"{store}/packages", json=package, headers=test_shop.owner_auth).status_code == 201


def test_whoever_writes_is_waited_for(test_shop: Shop, contention: Contention) -> None:
    """A write that found the clock still is committed before the clock moves."""
    write = "select from store_clocks where store_id = %(store)s for share"
    with contention.held(write, store=test_shop.store.id):
        (moved,) = contention.start(lambda: move(test_shop, "2100-01-01T00:00:00Z").status_code)
    assert moved.result() == 202


def test_a_canceled_move_leaves_the_clock_where_it_is(test_shop: Shop, make: Factory, in_app: Any) -> None:
    before = store_now(test_shop.store.id)
    job = (move(test_shop, "2100-01-01T00:00:00Z").json or {})["links"]["job"]
    assert test_shop.client.delete(job, headers=test_shop.owner_auth).status_code == 200
    clock = test_shop.get(clock_path(test_shop), test_shop.owner_auth)
    assert (datetime.fromisoformat(clock["now"]), clock["advancing_to"]) == (before, None)
    with transaction():
        require_still(test_shop.store.id)


@pytest.mark.parametrize("zone", ["Berlin", "europe/berlin", "localtime", "", "../etc/passwd", "UTC\n"])
def test_a_time_zone_is_one_of_those_that_there_are(shop: Shop, servers: Servers, zone: str) -> None:
    for answer in (
        shop.client.post(
            "/v1/stores", json={"name": "A", "currency": "EUR", "timezone": zone}, headers=shop.owner_auth
        ),
        shop.client.patch(f"/v1/stores/{shop.store.id}", json={"timezone": zone}, headers=shop.owner_auth),
    ):
        assert code(answer) == (422, "validation")
        assert (answer.json or {})["errors"][0]["pointer"] == "#/timezone"


def test_what_a_store_does_about_failed_renewals_can_be_changed(shop: Shop) -> None:
    body = {"timezone": "America/Los_Angeles", "dunning": "stay", "grace_days": 0}
    answer = shop.client.patch(f"/v1/stores/{shop.store.id}", json=body, headers=shop.owner_auth)
    assert answer.status_code == 200
    assert body.items() <= (answer.json or {}).items()
    for name, value in (("dunning", "forgive"), ("grace_days", 22), ("grace_days", -1)):
        answer = shop.client.patch(f"/v1/stores/{shop.store.id}", json={name: value}, headers=shop.owner_auth)
        assert (answer.json or {})["errors"][0]["pointer"] == f"#/{name}"
