"""Stripe as a store's gateway: payers' cards, charges and refunds, and what others may try with it."""

from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from msgspec.structs import replace

from dues.billing.renewals import offer
from dues.payments.stripe_client import API_VERSION
from tests.factory import Factory
from tests.payments.stripe_shop import StripeShop
from tests.rows.tables import earlier


def setup(stripes: StripeShop, how: str = "ok", *, tell: str = "client") -> dict[str, Any]:
    """The customer stores a card. Returns: the setup, once that is over."""
    shop = stripes.shop
    accepted = shop.post(f"{stripes.path}/payment-setups", {})
    assert accepted.status_code == 202, accepted.text
    stripes.work.drain()
    path = (accepted.json or {})["links"]["self"]
    begun = shop.get(path)
    assert begun["status"] == "requires_action"
    (intent,) = [one for one in stripes.account.all("setup_intents").values() if one["status"] != "succeeded"]
    assert begun["next_action"]["client_secret"] == intent["client_secret"]
    stripes.stripe.finish_setup(stripes.account, intent["id"], how)
    if tell == "client":
        assert shop.post(begun["next_action"]["href"], {}).status_code == 202
    else:
        stripes.hooks()
    stripes.work.drain()
    return shop.get(path)


@pytest.mark.parametrize("tell", ["client", "hook"])
def test_a_card_is_stored_and_charged(stripes: StripeShop, tell: str) -> None:
    done = setup(stripes, tell=tell)
    assert (done["status"], done["next_action"]) == ("succeeded", None)
    (card,) = stripes.shop.get("/v1/me/payment-methods")["data"]
    assert card["id"] == done["payment_method_id"]
    assert (card["store_id"], card["brand"], card["last4"], card["is_default"]) == (
        str(stripes.shop.store.id),
        "visa",
        "4242",
        True,
    )
    payment_id = stripes.shop.pay(card["id"])["id"]
    stripes.work.drain()
    assert stripes.payment(payment_id)["status"] == "succeeded"
    assert stripes.charged(payment_id) == [1500]
    asked = next(one for one in stripes.stripe.asked if one.path == "/v1/payment_intents")
    assert asked.headers["idempotency-key"] == payment_id
    assert asked.headers["stripe-version"] == API_VERSION
    assert asked.params["off_session"] == "false"
    assert not [one for one in stripes.stripe.asked if "x-stripe-client-telemetry" in one.headers]
    # The second card is stored for the same customer.
    setup(stripes)
    assert len([one for one in stripes.account.all("customers").values() if one["metadata"]]) == 1


# Which card is declined with which code.
DECLINES = {
    "declined": "generic_decline",
    "insufficient": "insufficient_funds",
    "stolen": "stolen_card",
    "expired": "expired_card",
}


def test_cards_that_are_declined(stripes: StripeShop) -> None:
    for how, code in DECLINES.items():
        payment_id = stripes.pay(how)
        found = stripes.payment(payment_id)
        assert (found["status"], found["failure_code"]) == ("failed", code)
        assert [one["status"] for one in stripes.intents(payment_id)] == ["canceled"], how


# Whether the payer has done what their bank wants, what the client says, and what becomes of the payment: what counts
# is what Stripe has.
ACTIONS = [
    (True, "succeed", "succeeded", None),
    (False, "succeed", "failed", "authentication_failed"),
    (None, "succeed", "requires_action", None),
    (None, "fail", "failed", "authentication_failed"),
    (True, "fail", "succeeded", None),
]


def test_payers_who_have_to_act(stripes: StripeShop) -> None:
    for succeeds, outcome, status, code in ACTIONS:
        payment_id = stripes.pay("action")
        found, (intent,) = stripes.payment(payment_id), stripes.intents(payment_id)
        assert found["next_action"]["type"] == "stripe"
        assert found["next_action"]["client_secret"] == intent["client_secret"]
        if succeeds is not None:
            stripes.stripe.act(stripes.account, intent["id"], succeeds=succeeds)
        assert stripes.shop.post(found["next_action"]["href"], {"outcome": outcome}).status_code == 202
        stripes.work.drain()
        found = stripes.payment(payment_id)
        assert (found["status"], found["failure_code"]) == (status, code), (succeeds, outcome)


# Ours, and what Stripe is asked for; None where it cannot be.
AMOUNTS = [
    ("JPY", 1500, 1500),
    ("KWD", 15000, 15000),
    ("KWD", 15001, None),
    ("ISK", 1500, 150000),
    ("MGA", 150000, 1500),
    ("MGA", 150001, None),
    ("EUR", 1500, 1500),
]


def test_amounts_in_stripes_own_units(stripes: StripeShop) -> None:
    stripes.make.rows("update stores set currencies = array['JPY', 'KWD', 'ISK', 'MGA']")
    for currency, amount, asked in AMOUNTS:
        payment_id = stripes.shop.pay(stripes.card(), amount=amount, currency=currency)["id"]
        stripes.work.drain()
        if asked is None:
            assert stripes.payment(payment_id)["failure_code"] == "amount_not_supported"
            assert stripes.intents(payment_id) == []
            continue
        assert stripes.payment(payment_id)["status"] == "succeeded"
        assert (stripes.charged(payment_id), stripes.intents(payment_id)[0]["currency"]) == ([asked], currency.lower())
        before = stripes.refunded()
        stripes.shop.refund(payment_id)
        stripes.work.hurry()
        assert (stripes.payment(payment_id)["status"], stripes.refunded() - before) == ("refunded", asked)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 1},
        pytest.param({"currency": "usd"}, marks=pytest.mark.slow),
        pytest.param({"metadata": {}}, marks=pytest.mark.slow),
    ],
)
def test_an_intent_that_is_not_what_we_asked_for_pays_nothing(stripes: StripeShop, change: dict[str, Any]) -> None:
    payment_id = stripes.pay("action")
    (intent,) = stripes.intents(payment_id)
    before = dict(intent)
    intent.update(change)
    stripes.stripe.act(stripes.account, intent["id"])
    stripes.hooks()
    stripes.sweep()
    stripes.work.hurry()
    assert stripes.payment(payment_id)["status"] == "requires_action"
    intent.update(before, status="succeeded", amount_received=1500)
    stripes.shop.post(f"{stripes.shop.path}/{payment_id}/confirmations", {"outcome": "succeed"})
    stripes.work.drain()
    assert stripes.payment(payment_id)["status"] == "succeeded"


def test_a_charge_that_succeeds_after_it_had_failed_is_given_back(stripes: StripeShop) -> None:
    payment_id = stripes.pay("action")
    (intent,) = stripes.intents(payment_id)
    stripes.make.rows("update payments set status = 'failed', failure_code = 'gateway_timeout', next_action = null")
    stripes.stripe.act(stripes.account, intent["id"])
    stripes.hooks()
    assert stripes.payment(payment_id)["status"] == "refunded"
    assert stripes.refunded() == 1500
    assert stripes.make.value("select count(*) from invoices") == 0


# What others may try


def test_cards_are_good_in_the_store_that_they_are_stored_in(stripes: StripeShop, make: Factory) -> None:
    other = make.store(stripes.shop.owner)
    card = stripes.card()
    wrong = {"amount": 500, "currency": "EUR"}
    answer = stripes.shop.post(f"/v1/stores/{other.id}/payments", wrong | {"payment_method": card})
    assert (answer.status_code, (answer.json or {})["errors"][0]["code"]) == (422, "wrong_gateway")
    answer = stripes.shop.post(stripes.shop.path, wrong | {"payment_method": "sandbox_ok"})
    assert (answer.status_code, (answer.json or {})["errors"][0]["code"]) == (422, "wrong_gateway")
    answer = stripes.shop.post(f"/v1/stores/{other.id}/payment-setups", {})
    assert (answer.status_code, (answer.json or {})["type"]) == (409, "/problems/sandbox_gateway")


def test_setups_are_their_payers_own(stripes: StripeShop, make: Factory) -> None:
    path = (stripes.shop.post(f"{stripes.path}/payment-setups", {}).json or {})["links"]["self"]
    for auth in (make.auth(make.user()), stripes.shop.owner_auth):
        assert stripes.shop.client.get(path, headers=auth).status_code == 404
        assert stripes.shop.post(f"{path}/confirmations", {}, auth).status_code == 404
    stripes.work.drain()


def test_a_card_that_is_forgotten_is_detached(stripes: StripeShop) -> None:
    card = stripes.card()
    answer = stripes.shop.client.delete(f"/v1/me/payment-methods/{card}", headers=stripes.shop.auth)
    assert answer.status_code == 204
    stripes.work.drain()
    assert [one.path.rpartition("/")[2] for one in stripes.stripe.asked][-1] == "detach"


def test_the_sandbox_charges_in_test_stores_alone_in_production(
    stripes: StripeShop, app: Flask, monkeypatch: pytest.MonkeyPatch, make: Factory
) -> None:
    real, test = make.store(stripes.shop.owner), make.store(stripes.shop.owner, test=True)
    monkeypatch.setitem(app.extensions, "settings", replace(app.extensions["settings"], environment="production"))
    body = {"payment_method": "sandbox_ok", "amount": 500, "currency": "EUR"}
    answer = stripes.shop.post(f"/v1/stores/{real.id}/payments", body)
    assert (answer.status_code, (answer.json or {})["errors"][0]["code"]) == (422, "sandbox_refused")
    assert stripes.shop.post(f"/v1/stores/{test.id}/payments", body).status_code == 202
    package = make.package(real)
    order = {"package_id": str(package.id), "payment_method": "sandbox_ok"}
    assert stripes.shop.post(f"/v1/stores/{real.id}/subscriptions", order).status_code == 422
    make.payment_method(stripes.shop.customer, is_default=True)
    order.pop("payment_method")
    assert stripes.shop.post(f"/v1/stores/{real.id}/subscriptions", order).status_code == 422
    stripes.work.drain()


def test_a_membership_is_renewed_through_stripe(stripes: StripeShop, make: Factory, app: Flask) -> None:
    package = make.package(stripes.shop.store, amount=2000)
    card = stripes.card(is_default=True)
    order = {"package_id": str(package.id)}
    answer = stripes.shop.post(f"{stripes.path}/subscriptions", order)
    assert answer.status_code == 202, answer.text
    stripes.work.drain()
    path = (answer.json or {})["links"]["self"]
    assert stripes.shop.get(path)["status"] == "active"
    # A default of the sandbox's is none of this store's.
    make.payment_method(stripes.shop.customer, is_default=True)
    make.rows(
        f"update subscriptions set {earlier('anchor_at current_period_start current_period_end', 31)},"
        " next_action_at = now()"
    )
    make.rows(f"update subscription_periods set {earlier('starts_at', 31)}")
    stripes.account.all("payment_methods")[
        make.value("select gateway_ref from payment_methods where id = %(id)s", {"id": UUID(card)})
    ]["stand_in"] = "action"
    renew(stripes, app)
    found = make.rows("select * from payments order by id")
    assert [(row.status, row.off_session, row.gateway) for row in found] == [
        ("succeeded", False, "stripe"),
        ("failed", True, "stripe"),
    ]
    assert found[1].failure_code == "authentication_required"
    assert stripes.shop.get(path)["status"] == "past_due"


def renew(stripes: StripeShop, app: Flask) -> None:
    with app.app_context():
        offer()
    stripes.work.drain()
