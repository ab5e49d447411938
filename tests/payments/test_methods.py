"""Stored payment methods: kept by a token, one of them the default, used by their id."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from werkzeug.test import TestResponse

from dues.ids import new_id
from tests.factory import Factory
from tests.payments.conftest import Shop, Work

METHODS = "/v1/me/payment-methods"


def found(answer: TestResponse, status: int) -> dict[str, Any]:
    """What the answer says."""
    assert answer.status_code == status, answer.text
    return answer.json or {}


def store(shop: Shop, token: str = "sandbox_ok", **body: Any) -> dict[str, Any]:
    return found(shop.post(METHODS, {"token": token, **body}), 201)


def defaults(shop: Shop) -> list[str]:
    return [method["id"] for method in shop.get(METHODS)["data"] if method["is_default"]]


def test_a_card_is_shown_without_its_number(shop: Shop) -> None:
    method = store(shop)
    shown = {name: method[name] for name in ("type", "brand", "last4", "exp_month", "exp_year", "is_default")}
    assert shown == {
        "type": "card",
        "brand": "visa",
        "last4": "4242",
        "exp_month": 12,
        "exp_year": 2099,
        "is_default": True,
    }
    assert shop.get(method["links"]["self"]) == method
    assert "sandbox_ok" not in str(method)


def test_one_is_the_default(shop: Shop) -> None:
    first, second = store(shop), store(shop)
    assert defaults(shop) == [first["id"]]
    third = store(shop, is_default=True)
    assert defaults(shop) == [third["id"]]
    for _ in range(2):
        changed = found(shop.client.patch(second["links"]["self"], json={"is_default": True}, headers=shop.auth), 200)
        assert (changed["is_default"], changed["version"]) == (True, 2)
    assert defaults(shop) == [second["id"]]


def test_of_many_made_the_default_at_once_one_is(shop: Shop) -> None:
    links = [store(shop)["links"]["self"] for _ in range(4)]

    def make_default(link: str) -> int:
        client = shop.client.application.test_client()
        return client.patch(link, json={"is_default": True}, headers=shop.auth).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(make_default, links)) == {200}
    assert len(defaults(shop)) == 1


def test_a_deleted_one_is_gone_and_no_other_becomes_the_default(shop: Shop) -> None:
    first, second = store(shop), store(shop)
    assert shop.client.delete(first["links"]["self"], headers=shop.auth).status_code == 204
    assert [method["id"] for method in shop.get(METHODS)["data"]] == [second["id"]]
    assert defaults(shop) == []
    assert shop.client.get(first["links"]["self"], headers=shop.auth).status_code == 404
    refused = found(shop.post(shop.path, {"payment_method": first["id"], "amount": 100, "currency": "EUR"}), 422)
    assert refused["errors"][0]["pointer"] == "#/payment_method"


def test_a_payment_names_a_stored_method(shop: Shop, work: Work) -> None:
    good, bad = store(shop), store(shop, "sandbox_insufficient")
    paid, failed = shop.pay(good["id"]), shop.pay(bad["id"])
    assert [payment["payment_method_id"] for payment in (paid, failed)] == [good["id"], bad["id"]]
    assert shop.pay()["payment_method_id"] is None
    work.drain()
    assert shop.payment(paid["id"])["status"] == "succeeded"
    assert shop.payment(failed["id"])["failure_code"] == "insufficient_funds"


def test_nobody_pays_with_anothers_card(shop: Shop, make: Factory) -> None:
    method = store(shop)
    other = make.auth(make.user())
    body = {"amount": 100, "currency": "EUR"}
    for method_id in (method["id"], str(new_id())):
        refused = found(shop.post(shop.path, {"payment_method": method_id, **body}, other), 422)
        assert refused["errors"][0]["code"] == "not_found"


@pytest.mark.parametrize(
    "token", ["", "visa", "sandbox_unknown", "sandbox_ok\n", "sandbox_fail_after:", "sandbox_fail_after:x", 1, None]
)
def test_what_is_no_token_is_refused(shop: Shop, token: Any) -> None:
    for path, name, body in ((METHODS, "token", {}), (shop.path, "payment_method", {"amount": 1, "currency": "EUR"})):
        assert found(shop.post(path, {name: token, **body}), 422)["errors"][0]["pointer"] == f"#/{name}"


def test_a_token_bound_to_a_store_knows_of_no_other_stores_and_changes_only_its_own(shop: Shop, make: Factory) -> None:
    """What charges everywhere may be seen, since it pays in this store, too."""
    elsewhere = make.payment_method(shop.customer, store_id=make.store().id, gateway="stripe")
    own = make.payment_method(shop.customer, store_id=shop.store.id, gateway="stripe")
    everywhere = make.payment_method(shop.customer)
    bound = make.auth(shop.customer, store=shop.store)
    assert {row["id"] for row in shop.get(METHODS, bound)["data"]} == {str(own.id), str(everywhere.id)}
    assert len(shop.get(METHODS)["data"]) == 3
    for method, seen, changed in ((own, 200, 200), (everywhere, 200, 403), (elsewhere, 404, 404)):
        url = f"{METHODS}/{method.id}"
        assert shop.client.get(url, headers=bound).status_code == seen
        assert shop.client.patch(url, json={"is_default": True}, headers=bound).status_code == changed
        assert shop.client.delete(url, headers=bound).status_code == (204 if changed == 200 else changed)
    assert shop.client.post(METHODS, json={"token": "sandbox_ok"}, headers=bound).status_code == 403
    assert len(shop.get(METHODS)["data"]) == 2


def subscribe(shop: Shop, make: Factory, auth: dict[str, str], **body: Any) -> dict[str, Any]:
    path = f"/v1/stores/{shop.store.id}/subscriptions"
    return found(shop.post(path, {"package_id": str(make.package(shop.store).id), **body}, auth), 202)


def charged_with(shop: Shop, make: Factory, work: Work) -> str:
    """Which method the last payment was charged to."""
    work.drain()
    return str(make.value("select payment_method_id from payments order by id desc limit 1"))


@pytest.mark.parametrize("has_default", [False, True])
def test_what_is_subscribed_with_by_a_bound_token_is_kept_for_its_store_alone(
    shop: Shop, make: Factory, work: Work, has_default: bool
) -> None:
    """It charges nothing elsewhere: neither what is owed there now nor what will be."""
    if has_default:
        store(shop)
    bound = make.auth(shop.customer, store=shop.store)
    subscribed = subscribe(shop, make, bound, payment_method="sandbox_ok")
    (method,) = [row for row in shop.get(METHODS)["data"] if row["store_id"]]
    assert (method["store_id"], method["is_default"]) == (str(shop.store.id), not has_default)
    assert charged_with(shop, make, work) == method["id"]
    changed = {"payment_method": "sandbox_insufficient"}
    answer = shop.client.patch(subscribed["links"]["self"], json=changed, headers=bound)
    assert answer.status_code == 200, answer.text
    assert len([row for row in shop.get(METHODS)["data"] if row["store_id"] == str(shop.store.id)]) == 2
    elsewhere = make.store()
    paid = {"payment_method": method["id"], "amount": 100, "currency": "EUR"}
    refused = found(shop.post(f"/v1/stores/{elsewhere.id}/payments", paid), 422)
    assert refused["errors"][0]["code"] == "wrong_gateway"


def test_a_stores_own_default_is_charged_before_that_for_everywhere(shop: Shop, make: Factory, work: Work) -> None:
    everywhere = store(shop)
    own = make.payment_method(shop.customer, store_id=shop.store.id)
    assert shop.client.patch(f"{METHODS}/{own.id}", json={"is_default": True}, headers=shop.auth).status_code == 200
    path = subscribe(shop, make, shop.auth)["links"]["self"]
    assert charged_with(shop, make, work) == str(own.id)
    # One that was named is charged, though it is the default of other stores.
    assert shop.client.delete(path, headers=shop.auth).status_code == 200
    subscribe(shop, make, shop.auth, payment_method=everywhere["id"])
    assert charged_with(shop, make, work) == everywhere["id"]


def test_a_default_of_the_sandbox_is_none_of_a_stores_gateway(shop: Shop, make: Factory) -> None:
    """A store that had its members' methods imported, and got a gateway of its own since."""
    make.payment_method(shop.customer, store_id=shop.store.id, is_default=True)
    account = {"store_id": shop.store.id, "id": new_id(), "type": "stripe", "reference": "acct_1"}
    make.insert("gateway_accounts", account | {"secret_key": b"secret", "webhook_secret": b"secret"})
    body = {"package_id": str(make.package(shop.store).id)}
    refused = found(shop.post(f"/v1/stores/{shop.store.id}/subscriptions", body), 422)
    assert refused["errors"][0]["code"] == "required"
