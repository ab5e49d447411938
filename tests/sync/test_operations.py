"""What becomes of operations: each done once, in their order, and refused where they would surprise somebody."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Made
from typing import Any
from uuid import UUID

import pytest
import ujson
from flask import Flask
from flask.testing import FlaskClient

from api.app import MODULES
from dues.ids import new_id
from dues.postgres import transaction
from dues.sync.operations import delete_expired_operations
from tests.factory import Factory
from tests.sync.conftest import MakeDevice
from tests.sync.device import Device, op, sender

ADDRESS = {"line1": "1 High Street", "city": "Leeds", "country": "GB"}
ADDRESSES = "/v1/me/addresses"


def post(**members: Any) -> dict[str, Any]:
    return op("POST", "/v1/posts", {"body": "Seven", "privacy": "public"}, **members)


def statuses(results: list[dict[str, Any]]) -> list[int]:
    return [result["status"] for result in results]


def codes(results: list[dict[str, Any]]) -> list[str | None]:
    return [result.get("problem", {}).get("code") for result in results]


def days_ago(days: float) -> str:
    return (datetime.now(UTC) - timedelta(days=days)).isoformat()


# 1. Identity


def test_an_operation_is_done_once_and_told_again(device: Device, make: Factory) -> None:
    write = op("POST", ADDRESSES, ADDRESS)
    (first,) = device.sync(write)
    (again,) = device.sync(write)
    assert (first["status"], first["replayed"], first["version"]) == (201, False, 1)
    assert (again["status"], again["replayed"], again["version"]) == (201, True, 1)
    # Not the body: how the row is now is told by the changes.
    assert again["body"] == {"id": first["body"]["id"]}
    assert again["location"] == first["location"] == f"{ADDRESSES}/{first['body']['id']}"
    assert make.value("select count(*) from addresses") == 1


def test_an_id_twice_in_one_request_is_one_operation(device: Device, make: Factory) -> None:
    write = op("POST", ADDRESSES, ADDRESS)
    other = write | {"body": ADDRESS | {"city": "York"}}
    results = device.sync(write, write, other)
    assert statuses(results) == [201, 201, 422]
    assert [result["replayed"] for result in results] == [False, True, False]
    assert codes(results)[2] == "idempotency_key_reused"
    assert make.value("select count(*) from addresses") == 1


def test_the_id_of_another_operation_is_refused(device: Device) -> None:
    write = op("POST", ADDRESSES, ADDRESS)
    others: list[dict[str, Any]] = [
        {"path": "/v1/posts"},
        {"method": "PATCH", "path": "/v1/me", "body": {"name": "Ada"}},
        {"body": ADDRESS | {"city": "York"}},
    ]
    results = device.sync(write, *(write | other for other in others))
    assert statuses(results) == [201, 422, 422, 422]
    assert codes(results)[2:] == ["idempotency_key_reused"] * 2


def test_an_id_is_the_same_in_whichever_spelling(device: Device, make: Factory) -> None:
    """Capitals, as Swift writes UUIDs, or no hyphens."""
    spellings: list[Callable[[str], str]] = [str, str.upper, lambda text: text.replace("-", "")]
    for spell in spellings:
        write = op("POST", "/v1/posts", {"body": "One", "privacy": "public"})
        write["id"] = spell(write["id"])
        child = op(
            "PATCH", f"/v1/posts/${write['id']}.id", {"title": {"$ref": f"{write['id']}#/body"}}, after=[write["id"]]
        )
        results = device.sync(write, child)
        assert statuses(results) == [201, 200], write["id"]
        assert results[0]["id"] == str(UUID(write["id"]))
        # They are known to a later request as well.
        later = op("DELETE", f"/v1/posts/${write['id']}.id", after=[write["id"]])
        assert statuses(device.sync(write | {"id": spell(results[0]["id"])}, later)) == [201, 204]
    assert make.value("select count(*) from posts") == 0


def test_ids_of_two_users_never_meet(device: Device, device_of: MakeDevice, owner: Made) -> None:
    write = op("POST", ADDRESSES, ADDRESS)
    assert [one.sync(write)[0]["replayed"] for one in (device, device_of(owner))] == [False, False]


def test_they_are_kept_for_90_days_without_what_was_answered(app: Flask, device: Device, make: Factory) -> None:
    write = op("POST", ADDRESSES, ADDRESS)
    device.sync(write)
    kept = make.rows("select * from sync_operations")[0]
    assert set(vars(kept)) == {
        "user_id", "id", "request_hash", "status", "resource_id", "version", "location", "created_at"
    }  # fmt: skip
    for days, left in ((89, 1), (91, 0)):
        make.rows("update sync_operations set created_at = now() - %(d)s * interval '1 day' returning id", {"d": days})
        with app.app_context(), transaction():
            delete_expired_operations()
        assert make.value("select count(*) from sync_operations") == left


def test_what_has_failed_is_tried_again(device: Device, make: Factory, member: Made) -> None:
    address = new_id()
    change = op("PATCH", f"{ADDRESSES}/{address}", {"city": "York"})
    assert statuses(device.sync(change)) == [404]
    make.address(member, id=address)
    assert statuses(device.sync(change)) == [200]


# 2. Order


def test_one_that_fails_stops_none_but_those_that_rest_on_it(device: Device) -> None:
    bad = post() | {"body": {}}
    child, grandchild = post(after=[bad["id"]]), post()
    grandchild["after"] = [child["id"]]
    uses = op("PATCH", f"/v1/posts/${bad['id']}.id", {"body": "x"})
    refers = post() | {"body": {"body": {"$ref": f"{bad['id']}#/body"}}}
    results = device.sync(bad, child, grandchild, post(), uses, refers)
    assert statuses(results) == [422, 424, 424, 201, 424, 424]
    # 424 is not kept: with what was wrong put right, they run.
    assert statuses(device.sync(bad | {"body": {"body": "Good", "privacy": "public"}}, child, grandchild)) == [201] * 3


def test_ones_that_use_the_id_of_what_could_not_be_made_are_not_tried(device: Device) -> None:
    chosen = str(new_id())
    bad = op("POST", "/v1/posts", {"id": chosen, "body": ""})
    results = device.sync(
        bad,
        op("PATCH", f"/v1/posts/{chosen}", {"body": "x"}),
        op("POST", f"/v1/posts/{chosen.upper()}/comments", {"body": "x"}),
        op("DELETE", f"/v1/posts/{chosen}"),
        op("PUT", f"/v1/posts/{new_id()}/like"),
    )
    assert statuses(results) == [422, 424, 424, 424, 404]


def test_a_shuffled_log_comes_to_the_same_end(device: Device) -> None:
    chosen = str(new_id())
    make = op("POST", "/v1/posts", {"id": chosen, "body": "One", "privacy": "public"})
    change = op("PATCH", f"/v1/posts/{chosen}", {"body": "Two"}, after=[make["id"]])
    like = op("PUT", f"/v1/posts/{chosen}/like", after=[make["id"]])
    assert statuses(device.sync(like, change, make)) == [424, 424, 201]
    assert statuses(device.sync(like, change, make)) == [200, 200, 201]
    assert device.of("post")[chosen]["body"] == "Two"
    assert device.of("like").keys() == {chosen}


def test_what_was_done_by_an_earlier_request_is_there_to_rest_on(device: Device) -> None:
    make = op("POST", "/v1/posts", {"body": "One", "privacy": "public"})
    device.sync(make)
    later = op("PATCH", f"/v1/posts/${make['id']}.id", {"body": "Two"}, after=[make["id"]])
    unknown = post(after=[str(new_id())])
    assert statuses(device.sync(later, unknown)) == [200, 424]


def test_rings_of_operations_are_refused_and_harm_nobody(device: Device) -> None:
    first, second, alone = post(), post(), post()
    first["after"], second["after"], alone["after"] = [second["id"]], [first["id"]], [alone["id"]]
    assert statuses(device.sync(first, second, alone, post())) == [424, 424, 424, 201]


# 3. New rows


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (ADDRESSES, ADDRESS),
        ("/v1/posts", {"body": "Seven", "privacy": "public"}),
        ("/v1/posts/{post}/comments", {"body": "Seven"}),
        ("/v1/stores/{store}/packages", {"name": "Gold", "amount": 1900, "interval": "month"}),
    ],
)
def test_a_client_may_choose_the_id_of_a_new_row(
    device_of: MakeDevice, client: FlaskClient, make: Factory, owner: Made, store: Made, path: str, body: Any
) -> None:
    device, chosen = device_of(owner), str(new_id())
    path = path.format(post=make.post(owner).id, store=store.id)
    write = op("POST", path, {"id": chosen, **body})
    assert device.sync(write)[0]["body"]["id"] == chosen
    results = device.sync(write, op("POST", path, {"id": chosen.upper(), **body}))
    assert (statuses(results), codes(results)[1]) == ([201, 409], "id_taken")
    # In a batch as well, and nowhere else.
    other, auth = str(new_id()), make.auth(owner)
    batch = {"operations": [{"id": "a", "method": "POST", "path": path, "body": {"id": other, **body}}]}
    answer = client.post("/v1/batch", json=batch, headers=auth)
    assert ujson.loads(answer.data)["results"][0]["body"]["id"] == other
    assert client.post(path, json={"id": str(new_id()), **body}, headers=auth).status_code == 422


def test_the_id_of_what_is_gone_stays_taken(device_of: MakeDevice, device: Device, make: Factory) -> None:
    chosen = str(new_id())
    first = device.sync(
        op("POST", "/v1/posts", {"id": chosen, "body": "One", "privacy": "public"}),
        op("DELETE", f"/v1/posts/{chosen}"),
        op("POST", "/v1/posts", {"id": chosen, "body": "Two", "privacy": "public"}),
    )
    assert statuses(first) == [201, 204, 409]
    # Nor does anybody else get it: those who have kept a link to the post would read theirs.
    stranger = device_of(make.user())
    (result,) = stranger.sync(op("POST", "/v1/posts", {"id": chosen, "body": "Mine", "privacy": "public"}))
    assert (result["status"], result["problem"]["code"]) == (409, "id_taken")


def test_an_id_that_another_has_is_taken(device: Device, make: Factory, store: Made, owner: Made) -> None:
    theirs = make.post(owner)
    (result,) = device.sync(op("POST", "/v1/posts", {"id": str(theirs.id), "body": "Mine", "privacy": "public"}))
    assert (result["status"], result["problem"]["code"]) == (409, "id_taken")


BAD_IDS = [5, None, "", "x", "5f1c8f6e-6f0e-4c5e-9a8f-2f1f7b7c9d10", "ffffffff-ffff-7fff-bfff-ffffffffffff"]


def test_what_cannot_be_the_id_of_a_new_row(device: Device) -> None:
    """Not of another version, and not of years to come: it would stay on top of every list."""
    results = device.sync(*(op("POST", "/v1/posts", {"id": bad, "body": "x", "privacy": "public"}) for bad in BAD_IDS))
    found = [(result["status"], result["problem"]["errors"][0]["pointer"]) for result in results]
    assert found == [(422, "#/id")] * len(BAD_IDS)


# 4. Conflicts


def test_a_change_of_an_old_version_is_told_the_present_one(device: Device) -> None:
    (made,) = device.sync(op("POST", ADDRESSES, ADDRESS))
    path = made["location"]
    device.sync(op("PATCH", path, {"city": "York"}, if_version=1))
    results = device.sync(
        op("PATCH", path, {"city": "Hull"}, if_version=1), op("DELETE", path, if_version=1), op("DELETE", path)
    )
    assert statuses(results) == [412, 412, 204]
    for result in results[:2]:
        assert result["version"] == result["problem"]["version"] == 2
        assert (result["problem"]["current"]["city"], result["problem"]["current"]["version"]) == ("York", 2)


def test_without_a_version_the_last_writer_wins_field_by_field(device: Device) -> None:
    (made,) = device.sync(op("POST", ADDRESSES, ADDRESS))
    device.sync(op("PATCH", made["location"], {"city": "York"}), op("PATCH", made["location"], {"line1": "2 Low Road"}))
    (row,) = device.of("address").values()
    assert (row["city"], row["line1"], row["version"]) == ("York", "2 Low Road", 3)


GONE = [
    ("/v1/posts/{id}", 204),
    ("/v1/me/addresses/{id}", 204),
    ("/v1/me/following/{id}", 204),
    ("/v1/stores/{id}/subscriptions/{id}", 204),
    ("/v1/me/addresses/x", 404),
    ("/v1/nowhere/{id}", 404),
    ("/v1/posts", 405),
]


def test_to_delete_what_is_gone_is_no_failure(device: Device) -> None:
    results = device.sync(*(op("DELETE", path.format(id=new_id())) for path, _ in GONE))
    assert statuses(results) == [status for _, status in GONE]


# 5. Money


def pay(store: Made, **members: Any) -> dict[str, Any]:
    body = {"amount": 1900, "currency": "EUR", "payment_method": "sandbox_ok"}
    return op("POST", f"/v1/stores/{store.id}/payments", body, **members)


def test_a_payment_is_accepted_once(device: Device, store: Made, make: Factory) -> None:
    write = pay(store)
    (first,), (again,) = device.sync(write), device.sync(write)
    assert (first["status"], again["status"], again["replayed"]) == (202, 202, True)
    assert first["location"] == again["location"]
    assert first["location"].startswith("/v1/jobs/")
    assert device.of("payment").keys() == {first["body"]["id"]}
    assert make.value("select count(*) from payments") == 1


def test_nobody_is_charged_for_what_was_tapped_long_ago(device: Device, store: Made, make: Factory) -> None:
    """Nor for what a clock that is wrong by years says."""
    for days, status in ((0.9, 202), (1.1, 409), (1100, 409), (-0.5, 202), (-2, 409), (-1100, 409)):
        (result,) = device.sync(pay(store, at=days_ago(days)))
        assert result["status"] == status, days
        assert (result.get("problem", {}).get("code") == "stale_operation") is (status == 409)
    assert make.value("select count(*) from payments") == 2
    # What moves no money is never too old.
    for at in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59+14:00"):
        assert statuses(device.sync(op("POST", ADDRESSES, ADDRESS, at=at), pay(store, at=at))) == [201, 409]


def test_a_payment_that_was_made_is_told_however_late_its_answer_is_fetched(device: Device, store: Made) -> None:
    write = pay(store)
    device.sync(write)
    (again,) = device.sync(write | {"at": days_ago(30)})
    assert (again["status"], again["replayed"]) == (202, True)


def test_routes_that_move_money_say_so() -> None:
    said = {str(route) for module in MODULES for route in module.all if route.moves_money}
    required = {str(route) for module in MODULES for route in module.all if route.idempotency == "required"}
    one = "/v1/stores/{store_id}/subscriptions/{subscription_id}"
    assert said == required | {
        "POST /v1/stores/{store_id}/payments/{payment_id}/confirmations",
        f"PATCH {one}",
        f"DELETE {one}",
    }


# 10. Limits, and what cannot be an operation


WRONG: list[tuple[dict[str, Any], int, str]] = [
    ({"ops": [op("DELETE", "/v1/me/following/x")] * 101}, 422, "#/ops"),
    ({"ops": [op("GET", "/v1/me")]}, 422, "#/ops/0/method"),
    ({"ops": [op("PUT", "https://elsewhere/v1/me")]}, 422, "#/ops/0/path"),
    ({"ops": [op("PUT", "/v1/me") | {"id": "a"}]}, 422, "#/ops/0/id"),
    ({"ops": [op("PUT", "/v1/me") | {"at": "yesterday"}]}, 422, "#/ops/0/at"),
    ({"ops": [op("PUT", "/v1/me") | {"at": "2026-11-26T09:00:00"}]}, 422, "#/ops/0/at"),
    ({"ops": [op("PUT", "/v1/me", if_version=0)]}, 422, "#/ops/0/if_version"),
    ({"ops": [op("PUT", "/v1/me", after=["x"])]}, 422, "#/ops/0/after/0"),
    ({"limit": 501}, 422, "#/limit"),
    ({"limit": 0}, 422, "#/limit"),
    ({"types": ["store"]}, 422, "#/types/0"),
    ({"types": []}, 422, "#/types"),
    ({"client": "mine"}, 422, "#/client"),
    ({"cursor": "x"}, 422, "#/cursor"),
    ({"colour": "red"}, 422, "#/colour"),
]


def test_what_is_wrong_with_a_request(client: FlaskClient, make: Factory, member: Made) -> None:
    send = sender(client, make.auth(member))
    for bad, status, pointer in WRONG:
        answered, problem = send(bad)
        assert (answered, problem["errors"][0]["pointer"]) == (status, pointer), bad


def test_some_requests_cannot_wait_for_a_connection(device_of: MakeDevice, owner: Made, store: Made) -> None:
    paths = [
        "/v1/sync",
        "/v1/batch",
        "/v1/tokens",
        "/v1/users",
        f"/v1/stores/{store.id}/webhook-endpoints",
    ]
    bodies: list[Any] = [{}, {}, {}, {}, {"url": "https://example.com/hooks", "events": ["*"]}]
    results = device_of(owner).sync(*(op("POST", path, body) for path, body in zip(paths, bodies, strict=True)))
    assert codes(results) == ["not_composable"] * len(paths)


def test_malformed_references_refuse_their_operation_alone(device: Device) -> None:
    bad = [{"$ref": 5}, {"$ref": "x"}, {"$ref": f"{new_id()}#/id"}]
    results = device.sync(*(op("POST", "/v1/posts", {"body": body}) for body in bad), post())
    assert statuses(results) == [400, 400, 424, 201]


def test_nobody_syncs_without_a_token(client: FlaskClient) -> None:
    assert sender(client, {})({"ops": [post()]})[0] == 401
    assert client.get("/v1/sync").status_code == 401


def test_a_right_that_one_operation_takes_away_is_gone_for_the_next(
    device_of: MakeDevice, make: Factory, owner: Made, store: Made
) -> None:
    make.staff(store, make.user(), role="owner")
    package = {"name": "Gold", "amount": 1900, "interval": "month"}
    results = device_of(owner).sync(
        op("POST", f"/v1/stores/{store.id}/packages", package),
        op("DELETE", f"/v1/stores/{store.id}/staff/{owner.id}"),
        op("POST", f"/v1/stores/{store.id}/packages", package),
    )
    assert statuses(results) == [201, 204, 403]
