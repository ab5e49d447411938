"""Payments and refunds over HTTP: what is refused and how, who sees what, and retries with the same key."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask
from urllib3 import PoolManager
from werkzeug.serving import make_server

from dues.ids import new_id
from tests.factory import Factory
from tests.payments.conftest import Shop, Work, shop, work
from tests.recorder import QueryRecorder
from tests.servers import Mailbox

__all__ = ["shop", "work"]

AMOUNT = {"amount": 1500, "currency": "EUR"}


def test_accepting_a_payment_is_four_messages_to_postgresql(shop: Shop, queries: QueryRecorder) -> None:
    body = {"payment_method": "sandbox_ok", **AMOUNT}
    for _ in range(5):
        shop.post(shop.path, body)
    with queries() as seen:
        assert shop.post(shop.path, body).status_code == 202
    messages = seen[[text.startswith("begin") for text in seen].index(True) :]
    assert len(messages) == 4, str(seen)
    # The store's numbers are taken with the commit: its other payments wait for no trip of this one's.
    assert "event_streams" in messages[-1] or "execute" in messages[-1]
    assert messages[-1].endswith("; commit")


def faults(answer: Any) -> dict[str, str]:
    assert answer.mimetype == "application/problem+json"
    return {fault["pointer"]: fault["code"] for fault in answer.json["errors"]}


def test_a_payment_is_accepted_with_the_url_of_its_job(shop: Shop) -> None:
    body = {"payment_method": "sandbox_ok", **AMOUNT, "description": "Tea"}
    answer = shop.post(shop.path, body)
    assert answer.status_code == 202
    payment = answer.json
    assert payment
    assert answer.headers["Location"] == payment["links"]["job"] == f"/v1/jobs/{shop.job(payment['links']['job']).id}"
    assert answer.headers["Retry-After"] == "1"
    assert payment == {
        "id": payment["id"],
        "store_id": str(shop.store.id),
        "user_id": str(shop.customer.id),
        "package_id": None,
        "subscription_id": None,
        "payment_method_id": None,
        "amount": 1500,
        "currency": "EUR",
        "status": "pending",
        "description": "Tea",
        "failure_code": None,
        "refunded_amount": 0,
        "paid_at": None,
        "next_action": None,
        "dispute": None,
        "version": 1,
        "created_at": payment["created_at"],
        "updated_at": payment["updated_at"],
        "links": {
            "self": f"{shop.path}/{payment['id']}",
            "job": payment["links"]["job"],
            "confirmation": None,
            "refunds": f"{shop.path}/{payment['id']}/refunds",
            "receipt": None,
        },
    }
    read = shop.client.get(payment["links"]["self"], headers=shop.auth)
    assert read.json == payment
    assert read.headers["ETag"].startswith('"1.')


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {"#/payment_method": "required"}),
        ({"payment_method": "visa", **AMOUNT}, {"#/payment_method": "pattern"}),
        ({"payment_method": "sandbox_ok"}, {"#/amount": "required", "#/currency": "required"}),
        ({"payment_method": "sandbox_ok", "amount": 1}, {"#/currency": "required"}),
        ({"payment_method": "sandbox_ok", "amount": 0, "currency": "EUR"}, {"#/amount": "range"}),
        (
            {"payment_method": 7, "amount": -1, "currency": "eur", "tip": 1},
            {"#/payment_method": "type", "#/amount": "range", "#/currency": "pattern", "#/tip": "unknown"},
        ),
        (
            {"payment_method": "sandbox_ok", "package_id": str(new_id()), **AMOUNT, "description": ""},
            {"#/description": "conflict"},
        ),
        ({"payment_method": "sandbox_ok", "package_id": str(new_id()), "amount": 1}, {"#/currency": "required"}),
        ({"payment_method": "sandbox_ok", "package_id": str(new_id()), "currency": "EUR"}, {"#/amount": "required"}),
        ({"payment_method": "sandbox_ok", "amount": 1, "currency": "ZZZ"}, {"#/currency": "choice"}),
        ({"payment_method": "sandbox_ok", "package_id": str(new_id())}, {"#/package_id": "not_found"}),
    ],
)
def test_all_that_is_wrong_with_a_payment_is_said_at_once(
    shop: Shop, make: Factory, body: dict[str, Any], expected: dict[str, str]
) -> None:
    answer = shop.post(shop.path, body)
    assert (answer.status_code, faults(answer)) == (422, expected)
    assert make.value("select count(*) from payments") == make.value("select count(*) from jobs") == 0


def test_packages_that_cannot_be_bought(shop: Shop, make: Factory) -> None:
    elsewhere = make.package(make.store())
    free = make.package(shop.store, amount=0)
    archived = make.package(shop.store, archived_at="2026-01-01T00:00:00Z")
    for package, code in ((elsewhere, "not_found"), (free, "free_of_charge")):
        answer = shop.post(shop.path, {"payment_method": "sandbox_ok", "package_id": str(package.id)})
        assert (answer.status_code, faults(answer)) == (422, {"#/package_id": code})
    answer = shop.post(shop.path, {"payment_method": "sandbox_ok", "package_id": str(archived.id)})
    assert answer.status_code == 409
    assert answer.json
    assert answer.json["code"] == "package_archived"


def test_a_store_takes_its_own_currency_and_those_it_lists(shop: Shop, make: Factory) -> None:
    def pay(currency: str) -> Any:
        return shop.post(shop.path, {"payment_method": "sandbox_ok", "amount": 1000, "currency": currency})

    store = f"/v1/stores/{shop.store.id}"
    yen = make.package(shop.store, amount=1000, currency="JPY")
    by_package = {"payment_method": "sandbox_ok", "package_id": str(yen.id)}
    assert pay("EUR").status_code == 202
    assert (pay("JPY").status_code, faults(pay("JPY"))) == (422, {"#/currency": "choice"})
    assert faults(shop.post(shop.path, by_package)) == {"#/package_id": "choice"}
    changed = shop.client.patch(store, json={"currencies": ["JPY", "CHF"]}, headers=shop.owner_auth)
    assert changed.json
    assert changed.json["currencies"] == ["EUR", "JPY", "CHF"]
    assert [pay(currency).status_code for currency in ("EUR", "JPY", "CHF", "USD")] == [202, 202, 202, 422]
    assert shop.post(shop.path, by_package).status_code == 202
    shop.client.patch(store, json={"currency": "USD", "currencies": []}, headers=shop.owner_auth)
    assert [pay(currency).status_code for currency in ("EUR", "JPY", "USD")] == [422, 422, 202]


def test_a_price_that_was_seen_is_the_price_that_is_charged(shop: Shop, make: Factory) -> None:
    package = make.package(shop.store, amount=1000, currency="EUR")
    url, body = f"/v1/stores/{shop.store.id}/packages/{package.id}", {"payment_method": "sandbox_ok"}
    seen = body | {"package_id": str(package.id), "amount": 1000, "currency": "EUR"}
    paid = shop.post(shop.path, seen)
    assert paid.json
    assert (paid.status_code, paid.json["amount"], paid.json["package_id"]) == (202, 1000, str(package.id))
    shop.client.patch(f"/v1/stores/{shop.store.id}", json={"currencies": ["KWD"]}, headers=shop.owner_auth)
    shop.client.patch(url, json={"amount": 100_000, "currency": "KWD"}, headers=shop.owner_auth)
    refused = shop.post(shop.path, seen)
    assert refused.json
    assert (refused.status_code, refused.json["code"]) == (409, "price_changed")
    assert {name: refused.json[name] for name in ("amount", "currency", "version")} == {
        "amount": 100_000,
        "currency": "KWD",
        "version": 2,
    }
    assert "100.000 KWD" in refused.json["detail"]
    for differing in ({"amount": 100_000}, {"currency": "KWD"}):
        assert shop.post(shop.path, seen | differing).status_code == 409
    assert shop.post(shop.path, seen | {"amount": 100_000, "currency": "KWD"}).status_code == 202
    assert make.value("select array_agg(amount order by id)::text from payments") == "{1000,100000}"


def test_a_package_that_was_seen_is_the_one_that_is_paid(shop: Shop, make: Factory) -> None:
    package = make.package(shop.store)
    url = f"/v1/stores/{shop.store.id}/packages/{package.id}"
    etag = shop.client.get(url, headers=shop.auth).headers["ETag"]

    def pay(if_match: str, **body: Any) -> int:
        headers = shop.auth | {"Idempotency-Key": new_id().hex, "If-Match": if_match}
        body = {"payment_method": "sandbox_ok"} | (body or {"package_id": str(package.id)})
        return shop.client.post(shop.path, json=body, headers=headers).status_code

    assert [pay(etag), pay("*"), pay('"7.x"')] == [202, 202, 412]
    shop.client.patch(url, json={"description": "Without the sauna"}, headers=shop.owner_auth)
    assert pay(etag) == 412
    assert pay(shop.client.get(url, headers=shop.auth).headers["ETag"]) == 202
    assert [pay(etag, **AMOUNT), pay("*", **AMOUNT)] == [412, 412]


@pytest.mark.parametrize("below", ["", "/{payment_id}/refunds"])
def test_writes_of_money_need_an_idempotency_key(shop: Shop, make: Factory, below: str) -> None:
    payment = make.payment(shop.store, shop.customer)
    path = shop.path + below.format(payment_id=payment.id)
    answer = shop.client.post(path, json={}, headers=shop.owner_auth)
    assert answer.status_code == 400
    assert answer.json
    assert answer.json["code"] == "idempotency_key_required"


def test_the_same_key_is_the_same_payment(shop: Shop, make: Factory) -> None:
    body = {"payment_method": "sandbox_ok", **AMOUNT}
    first = shop.post(shop.path, body, key="once")
    again = shop.post(shop.path, body, key="once")
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json == first.json
    assert again.headers["Location"] == first.headers["Location"]
    assert again.headers["Idempotency-Replayed"] == "true"
    assert shop.post(shop.path, {**body, "amount": 1}, key="once").status_code == 422
    assert make.value("select count(*) from payments") == 1


def test_fifty_at_once_with_one_key_are_one_payment(
    app: Flask, shop: Shop, work: Work, make: Factory, mailbox: Mailbox
) -> None:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    start = threading.Barrier(50)
    headers = {**shop.auth, "Idempotency-Key": "fifty"}

    def post(_: int) -> tuple[int, str | None, bytes]:
        with PoolManager(retries=False) as http:
            start.wait(10)
            answer = http.request(
                "POST",
                f"http://127.0.0.1:{server.port}{shop.path}",
                json={"payment_method": "sandbox_ok", **AMOUNT},
                headers=headers,
                timeout=30,
            )
            return answer.status, answer.headers.get("Idempotency-Replayed"), answer.data

    try:
        with ThreadPoolExecutor(50) as threads:
            answers = list(threads.map(post, range(50)))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    fresh = [body for status, replayed, body in answers if status == 202 and replayed is None]
    assert len(fresh) == 1
    assert {status for status, _, _ in answers} <= {202, 409}
    assert {body for status, _, body in answers if status == 202} == set(fresh)
    work.drain()
    assert make.value("select count(*) from payments") == 1
    assert make.value("select count(*) from sandbox_gateway.operations") == 1
    assert len(mailbox.mails()) == 1


def test_refunds_never_exceed_the_payment(shop: Shop, make: Factory) -> None:
    payment = make.payment(shop.store, shop.customer, amount=1000)
    for amount, status, left in [(1001, 409, 1000), (600, 202, 0), (401, 409, 400), (400, 202, 0), (1, 409, 0)]:
        answer = shop.refund(payment.id, amount=amount)
        assert answer.status_code == status
        if status == 409:
            assert answer.json
            assert (answer.json["code"], answer.json["refundable"]) == ("refund_exceeds_payment", left)
    assert shop.refund(payment.id).status_code == 409
    assert make.value("select sum(amount) from refunds") == 1000


def test_refunds_at_once_never_exceed_the_payment(app: Flask, shop: Shop, work: Work, make: Factory) -> None:
    payment_id = shop.pay()["id"]
    work.drain()
    headers = [{**shop.owner_auth, "Idempotency-Key": new_id().hex} for _ in range(8)]
    start = threading.Barrier(8)

    def refund(own: dict[str, str]) -> int:
        client = app.test_client()
        start.wait(10)
        return client.post(f"{shop.path}/{payment_id}/refunds", json={"amount": 400}, headers=own).status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(refund, headers))
    assert sorted(statuses) == [202] * 3 + [409] * 5
    work.drain()
    assert shop.payment(payment_id)["refunded_amount"] == 1200
    assert make.value("select sum(amount) from sandbox_gateway.operations where kind = 'refund'") == 1200


@pytest.mark.parametrize("status", ["pending", "processing", "failed", "requires_action", "unknown", "refunded"])
def test_what_has_not_succeeded_cannot_be_refunded(shop: Shop, make: Factory, status: str) -> None:
    payment = make.payment(shop.store, shop.customer, status=status)
    answer = shop.refund(payment.id)
    assert answer.status_code == 409
    assert answer.json
    assert answer.json["code"] == "invalid_transition"


@pytest.mark.parametrize("body", [{"amount": 0}, {"amount": "all"}, {"reason": 5}, {"to": "me"}])
def test_refunds_that_make_no_sense(shop: Shop, make: Factory, body: dict[str, Any]) -> None:
    payment = make.payment(shop.store, shop.customer)
    answer = shop.refund(payment.id, **body)
    assert (answer.status_code, list(faults(answer))) == (422, [f"#/{next(iter(body))}"])


def test_who_sees_which_payments(shop: Shop, make: Factory) -> None:
    other = make.user()
    mine, others = make.payment(shop.store, shop.customer), make.payment(shop.store, other)
    elsewhere = make.payment(make.store(), shop.customer)
    support = make.user()
    make.staff(shop.store, support, role="support")
    for auth, seen in ((shop.auth, {mine.id}), (make.auth(support), {mine.id, others.id})):
        assert {row["id"] for row in shop.get(shop.path, auth)["data"]} == {str(id_) for id_ in seen}
        for payment in (mine, others):
            for path in (f"{shop.path}/{payment.id}", f"{shop.path}/{payment.id}/refunds"):
                status = 200 if payment.id in seen else 404
                assert shop.client.get(path, headers=auth).status_code == status
    # Not even a filter shows what is not one's own.
    assert shop.get(f"{shop.path}?user_id={other.id}")["data"] == []
    assert {row["id"] for row in shop.get("/v1/me/payments")["data"]} == {str(mine.id), str(elsewhere.id)}
    bound = make.auth(shop.customer, store=shop.store)
    assert {row["id"] for row in shop.get("/v1/me/payments", bound)["data"]} == {str(mine.id)}
    # Nor does a payment show under another store.
    assert shop.client.get(f"/v1/stores/{elsewhere.store_id}/payments/{mine.id}", headers=shop.auth).status_code == 404


def test_who_may_refund(shop: Shop, make: Factory) -> None:
    payment = make.payment(shop.store, shop.customer)
    expected = {"support": 403, "manager": 202}
    for role, status in expected.items():
        user = make.user()
        make.staff(shop.store, user, role=role)
        answer = shop.post(f"{shop.path}/{payment.id}/refunds", {"amount": 1}, make.auth(user))
        assert answer.status_code == status
    path = f"{shop.path}/{payment.id}/refunds"
    assert shop.post(path, {}, shop.auth).status_code == 403
    assert shop.post(path, {}, make.auth(make.user())).status_code == 404
    assert shop.post(path, {}, make.auth(shop.owner, "payments:read")).status_code == 403


def test_only_the_payer_confirms(shop: Shop, make: Factory) -> None:
    payment = make.payment(shop.store, shop.customer, status="requires_action")
    path = f"{shop.path}/{payment.id}/confirmations"
    assert shop.post(path, {"outcome": "succeed"}, shop.owner_auth).status_code == 403
    assert shop.post(path, {"outcome": "succeed"}, make.auth(make.user())).status_code == 404
    assert faults(shop.post(path, {"outcome": "maybe"})) == {"#/outcome": "choice"}
    assert shop.client.post(path, json={"outcome": "succeed"}, headers=shop.auth).status_code == 202


@pytest.mark.parametrize("status", ["pending", "processing", "succeeded", "failed", "unknown"])
def test_confirming_where_nothing_is_required(shop: Shop, make: Factory, status: str) -> None:
    payment = make.payment(shop.store, shop.customer, status=status)
    answer = shop.post(f"{shop.path}/{payment.id}/confirmations", {"outcome": "succeed"})
    assert answer.status_code == 409
    assert answer.json
    assert answer.json["code"] == "invalid_transition"
    assert make.value("select status from payments") == status


def test_what_may_not_be_seen_is_not_there_whatever_else_is_wrong(shop: Shop, make: Factory) -> None:
    others = make.payment(shop.store)
    for below in ("", "/refunds"):
        path = f"{shop.path}/{others.id}{below}?nonsense=1"
        assert shop.client.get(path, headers=shop.auth).status_code == 404
        assert shop.client.get(path, headers=shop.owner_auth).status_code == 400
    assert shop.client.get(f"{shop.path}/none", headers=shop.auth).status_code == 404
    assert shop.client.get(f"{shop.path}/{new_id()}/refunds", headers=shop.owner_auth).status_code == 404
    refund = make.refund(others)
    assert shop.client.get(f"{shop.path}/{others.id}/refunds/{refund.id}", headers=shop.auth).status_code == 404
    assert shop.client.get(f"{shop.path}/{others.id}/refunds/{refund.id}", headers=shop.owner_auth).status_code == 200
