"""A right that is taken away while a request runs: what it allowed is not committed, or was committed before."""

from collections.abc import Callable
from typing import Any

import pytest
import ujson
from flask import Flask
from sqlalchemy.exc import DBAPIError

from dues.postgres import transaction
from dues.stores import access
from tests.api.world import World
from tests.contention import Contention
from tests.factory import Factory
from tests.recorder import QueryRecorder

PAYMENT = {"amount": 500, "currency": "EUR", "payment_method": "sandbox_ok"}
REVOKE = "update api_tokens set revoked_at = now() where user_id = %(user_id)s"
LOCK_TOKEN = "select 1 from api_tokens where user_id = %(user_id)s for update"
LOCK_STAFF = "select 1 from store_staff where user_id = %(user_id)s for update"
REMOVE = "delete from store_staff where user_id = %(user_id)s"
DEMOTE = "update store_staff set role = 'support' where user_id = %(user_id)s"
PROMOTE = "update store_staff set role = 'owner' where user_id = %(user_id)s"

Call = Callable[[], Any]


@pytest.fixture
def world(make: Factory, app: Flask) -> World:
    return World(make, app)


@pytest.fixture
def writes(app: Flask, world: World, make: Factory) -> dict[str, Call]:
    """Writes by the manager, who is known already."""
    store, auth = f"/v1/stores/{world.store.id}", make.auth(world.manager)
    ids = world.target("DELETE", "/v1/stores/{store_id}/packages/{package_id}")
    job = world.target("DELETE", "/v1/jobs/{job_id}")

    def call(method: str, path: str, body: Any = None) -> Call:
        headers = auth | {"Idempotency-Key": "one"}
        return lambda: app.test_client().open(path, method=method, json=body, headers=headers)

    package = {"name": "Gold", "amount": 1500, "interval": "month"}
    app.test_client().get(f"{store}/payments", headers=auth)
    return {
        "a package": call("POST", f"{store}/packages", package),
        "an archived package": call("DELETE", f"{store}/packages/{ids['package_id']}"),
        "a payment": call("POST", f"{store}/payments", PAYMENT),
        "a canceled job": call("DELETE", f"/v1/jobs/{job['job_id']}"),
        "a name": call("PATCH", "/v1/me", {"name": "Late"}),
    }


def counts(make: Factory) -> list[Any]:
    return [
        make.value(f"select count(*) from {table}")
        for table in ("packages where archived_at is null", "payments", "jobs where status = 'queued'", "events")
    ] + [make.value("select count(*) from users where name = 'Late'")]


@pytest.mark.parametrize("what", ["a package", "an archived package", "a payment", "a canceled job", "a name"])
def test_with_a_token_that_is_revoked_meanwhile_nothing_is_committed(
    what: str, writes: dict[str, Call], world: World, make: Factory, contention: Contention
):
    before = counts(make)
    with contention.held(LOCK_TOKEN, REVOKE, user_id=world.manager.id):
        (late,) = contention.start(writes[what])
    assert (late.result().status_code, late.result().json["code"]) == (401, "unauthenticated")
    assert "WWW-Authenticate" in late.result().headers
    assert counts(make) == before


@pytest.mark.parametrize("taken", [REMOVE, DEMOTE])
@pytest.mark.parametrize("what", ["a package", "an archived package", "a canceled job"])
def test_with_a_role_that_is_taken_away_meanwhile_nothing_is_committed(
    what: str, taken: str, writes: dict[str, Call], world: World, make: Factory, contention: Contention
):
    before = counts(make)
    with contention.held(LOCK_STAFF, taken, user_id=world.manager.id):
        (late,) = contention.start(writes[what])
    assert (late.result().status_code, late.result().json["code"]) == (403, "forbidden")
    assert counts(make) == before


def test_with_more_than_before_everything_is(
    writes: dict[str, Call], world: World, contention: Contention, make: Factory
):
    with contention.held(LOCK_STAFF, PROMOTE, user_id=world.manager.id):
        (late,) = contention.start(writes["a package"])
    assert late.result().status_code == 201


def test_whoever_takes_a_right_away_waits_for_what_is_being_committed(
    app: Flask, world: World, make: Factory, contention: Contention
):
    """By each way there is, because its row is locked so that a right that is held stands in the way."""
    owner, store = make.auth(world.owner), f"/v1/stores/{world.store.id}"
    manager = make.auth(world.manager)
    token_id = make.value("select id from api_tokens where user_id = %(id)s", {"id": world.manager.id})
    held = (
        "select 1 from api_tokens where user_id = %(user_id)s for key share",
        "select 1 from store_staff where user_id = %(user_id)s for key share",
    )

    def call(method: str, path: str, auth: dict[str, str], body: Any = None) -> Call:
        return lambda: app.test_client().open(path, method=method, json=body, headers=auth).status_code

    takers = [
        (call("PUT", f"{store}/staff/{world.manager.id}", owner, {"role": "support"}), 200),
        (call("DELETE", f"{store}/staff/{world.manager.id}", owner), 204),
        (call("DELETE", f"/v1/tokens/{token_id}", manager), 204),
    ]
    for take, status in takers:
        with contention.held(*held, user_id=world.manager.id):
            (taken,) = contention.start(take)
        assert taken.result() == status


def test_one_may_take_away_ones_own(app: Flask, world: World, make: Factory):
    client, store = app.test_client(), f"/v1/stores/{world.store.id}"
    second = make.user()
    make.staff(world.store, second, role="owner")
    auth, other = make.auth(world.owner), make.auth(second)
    me = f"{store}/staff/{world.owner.id}"
    assert client.put(me, json={"role": "manager"}, headers=auth).status_code == 200
    assert client.put(me, json={"role": "owner"}, headers=other).status_code == 200
    assert client.delete(me, headers=auth).status_code == 204
    token, *_ = ujson.loads(client.get("/v1/tokens", headers=auth).data)["data"]
    assert client.delete(token["links"]["self"], headers=auth).status_code == 204


def test_two_who_take_it_from_each_other_do_not_wait_for_ever(
    app: Flask, world: World, make: Factory, contention: Contention
):
    second = make.user()
    make.staff(world.store, second, role="owner")
    auths = {world.owner.id: make.auth(world.owner), second.id: make.auth(second)}

    def demote(by: Any, whom: Any) -> Call:
        path = f"/v1/stores/{world.store.id}/staff/{whom.id}"
        headers = auths[by.id]
        return lambda: app.test_client().put(path, json={"role": "support"}, headers=headers).status_code

    with contention.held("select 1 from stores where id = %(id)s for update", id=world.store.id):
        futures = contention.start(demote(world.owner, second), demote(second, world.owner))
    assert sorted(future.result() for future in futures) == [200, 403]


def test_a_right_costs_no_message_of_its_own(
    app: Flask, world: World, make: Factory, queries: QueryRecorder, monkeypatch: pytest.MonkeyPatch
):
    auth, path = make.auth(world.owner), f"/v1/stores/{world.store.id}/payments"

    def pay(key: str) -> int:
        with queries() as seen:
            answer = app.test_client().post(path, json=PAYMENT, headers=auth | {"Idempotency-Key": key})
        assert answer.status_code == 202
        return len(seen)

    pay("first")
    with_it = pay("a")
    monkeypatch.setattr(access, "_HOLD_ROLE", "select 1")
    assert with_it == pay("b")


def test_other_errors_of_the_database_are_what_they_were(app: Flask):
    divided = pytest.raises(DBAPIError, match="division by zero")
    with app.app_context(), divided, access.refusing_lost_rights(), transaction() as session:
        session.connection().exec_driver_sql("select 1 / 0")
