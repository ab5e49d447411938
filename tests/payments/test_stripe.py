"""Stripe as a store's gateway: its owner's choice, payers' cards, charges, and what others may try with it."""

import logging
import time
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from msgspec.structs import replace

from dues.billing.renewals import offer
from dues.ids import new_id
from dues.payments.stripe_client import API_VERSION
from tests.factory import Factory
from tests.payments.stripe_shop import WEBHOOK_SECRET, StripeShop
from tests.payments.stripe_stand_in import signed


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


# Hooks


def test_hooks_that_are_refused(stripes: StripeShop, make: Factory) -> None:
    payment_id = stripes.pay("action")
    (intent,) = stripes.intents(payment_id)
    stripes.stripe.act(stripes.account, intent["id"])
    (event,) = stripes.events("payment_intent.succeeded")
    other = make.store(stripes.shop.owner)
    body, headers = signed(event, WEBHOOK_SECRET)
    path, post = f"/v1/gateways/stripe/{stripes.shop.store.id}", stripes.shop.client.post
    day = 86_400
    refused = [
        stripes.hook(event, secret="whsec_another0123456789"),
        stripes.hook(event, at=time.time() - day),
        stripes.hook(event, at=time.time() + day),
        stripes.hook(event, store=new_id()),
        stripes.hook(event, store=other.id),
        post(path, data=body),
        post(path, data=body + b" ", headers=headers),
        post(path, data=body, headers={"Stripe-Signature": ""}),
        post(path, data=body, headers={"Stripe-Signature": "t=,v1="}),
        post(path, data=body, headers={"Stripe-Signature": headers["Stripe-Signature"].replace("v1=", "v0=")}),
        post(path, data=body, headers={"Stripe-Signature": "v1=" + "0" * 64 + ",t=²"}),
    ]
    answers = [
        {name: (answer.json or {})[name] for name in ("type", "status", "title", "detail")} for answer in refused
    ]
    assert answers == [answers[0]] * len(answers)
    assert (refused[0].status_code, answers[0]["type"]) == (400, "/problems/invalid_signature")
    body, headers = signed({"data": "none"}, WEBHOOK_SECRET)
    assert (post(path, data=body, headers=headers).json or {})["type"] == "/problems/malformed_event"
    large, headers = signed(event | {"more": "x" * 300_000}, WEBHOOK_SECRET)
    assert post(path, data=large, headers=headers).status_code == 413
    stripes.work.drain()
    assert stripes.payment(payment_id)["status"] == "requires_action"
    assert make.value("select count(*) from gateway_events") == 0
    stripes.hooks()
    assert stripes.payment(payment_id)["status"] == "succeeded"


def test_operators_are_told_of_a_clock_that_is_wrong(stripes: StripeShop, caplog: pytest.LogCaptureFixture) -> None:
    stripes.pay()
    (event,) = stripes.events("payment_intent.succeeded")
    assert stripes.hook(event, at=time.time() - 1000).status_code == 400
    assert [record.message for record in caplog.records if "by our clock" in record.message]
    caplog.clear()
    assert stripes.hook(event, secret="whsec_another0123456789", at=time.time() - 1000).status_code == 400
    assert not [record for record in caplog.records if "by our clock" in record.message]


def test_hooks_that_are_about_nothing_of_the_stores(stripes: StripeShop) -> None:
    """They are taken, since they were signed, and nothing is done."""
    payment_id = stripes.pay("action")
    (event,) = stripes.events("payment_intent.requires_action")
    tell = stripes.stripe.tell
    intent = event["data"]["object"]
    strangers = [
        event,
        tell(stripes.account, "payment_intent.succeeded", {"id": "pi_1"}),
        tell(stripes.account, "payment_intent.succeeded", intent | {"metadata": {"dues_payment": payment_id}}),
        tell(
            stripes.account,
            "payment_intent.succeeded",
            intent | {"metadata": intent["metadata"] | {"dues_store": str(new_id())}},
        ),
        tell(
            stripes.account,
            "payment_intent.succeeded",
            intent | {"metadata": intent["metadata"] | {"dues_payment": "x"}},
        ),
        tell(stripes.account, "payment_intent.succeeded", intent) | {"account": "acct_connected"},
        tell(stripes.account, "customer.created", {"id": "cus_1"}),
        tell(stripes.account, "charge.dispute.created", {"id": "dp_\0"}),
        tell(stripes.account, "charge.dispute.created", {"id": "../../customers"}),
        tell(stripes.account, "charge.dispute.created", {"id": "dp_" + "1" * 300}),
        tell(stripes.account, "charge.dispute.created", {"id": "dp_1"}) | {"id": "evt_\0"},
        tell(stripes.account, "charge.dispute.created", {"id": "dp_1"}) | {"id": ""},
    ]
    stripes.hooks(*strangers)
    assert stripes.make.value("select count(*) from gateway_events") == 0
    # Of a charge that there is not, and one that has not succeeded, whatever the event says.
    stripes.hooks(
        tell(stripes.account, "payment_intent.succeeded", intent | {"status": "succeeded"}),
        tell(
            stripes.account,
            "payment_intent.succeeded",
            intent | {"metadata": intent["metadata"] | {"dues_payment": str(new_id())}},
        ),
        tell(stripes.account, "charge.dispute.created", {"id": "dp_none"}),
    )
    assert stripes.payment(payment_id)["status"] == "requires_action"
    assert stripes.make.rows("select kind from jobs where status not in ('succeeded', 'queued')") == []


def test_a_dispute_of_another_stores_charge_is_not_this_ones(stripes: StripeShop, make: Factory) -> None:
    """Two stores of one account: each is told of all that happens there."""
    payment_id = stripes.pay()
    (intent,) = stripes.intents(payment_id)
    stripes.stripe.dispute(stripes.account, intent)
    (event,) = stripes.events("charge.dispute.created")
    other = make.store(stripes.shop.owner)
    body = {"type": "stripe", "secret_key": stripes.secret_key, "webhook_secret": WEBHOOK_SECRET}
    answer = stripes.shop.client.put(f"/v1/stores/{other.id}/gateway", json=body, headers=stripes.shop.owner_auth)
    assert answer.status_code == 200
    assert stripes.hook(event, store=other.id).status_code == 204
    stripes.work.drain()
    assert stripes.payment(payment_id)["dispute"] is None
    stripes.sweep()
    assert stripes.payment(payment_id)["dispute"]["status"] == "open"
    assert make.value("select count(*) from disputes") == 1


# The account


def test_the_owner_alone_chooses_and_nobody_is_shown_secrets(stripes: StripeShop, make: Factory) -> None:
    manager = make.user()
    make.staff(stripes.shop.store, manager, role="manager")
    assert stripes.choose(auth=make.auth(manager)).status_code == 403
    found = stripes.shop.get(f"{stripes.path}/gateway", stripes.shop.owner_auth)
    assert (found["type"], found["account"]) == ("stripe", stripes.account.id)
    assert found["secret_key_last4"] == stripes.secret_key[-4:]
    assert found["webhook_secret_last4"] == WEBHOOK_SECRET[-4:]
    assert "SECRET" not in str(found)


# Choices that are refused, and for which of their fields.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"secret_key": "sk_test_standinSECRET0001"}, "#/secret_key"),
    ({"secret_key": "sk_live_unknownSECRET0001"}, "#/secret_key"),
    ({"secret_key": "SECRET"}, "#/secret_key"),
    ({"webhook_secret": "SECRET"}, "#/webhook_secret"),
    ({"publishable_key": "pk_test_standinSECRET0001"}, "#/publishable_key"),
    ({"type": "sandbox"}, "#/secret_key"),
]


def test_choices_that_are_refused(stripes: StripeShop, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for change, pointer in REFUSED:
        answer = stripes.choose(**change)
        assert (answer.status_code, (answer.json or {})["errors"][0]["pointer"]) == (422, pointer)
        assert "SECRET" not in answer.text + caplog.text


def test_a_live_key_is_refused_in_a_test_store(stripes: StripeShop, make: Factory) -> None:
    store = make.store(stripes.shop.owner, test=True)
    test_key = stripes.stripe.key("test")
    for key, status in ((stripes.secret_key, 422), (test_key, 200)):
        body = {"type": "stripe", "secret_key": key, "webhook_secret": WEBHOOK_SECRET}
        answer = stripes.shop.client.put(f"/v1/stores/{store.id}/gateway", json=body, headers=stripes.shop.owner_auth)
        assert answer.status_code == status


def test_stripe_that_does_not_answer_is_no_fault_of_the_keys(stripes: StripeShop) -> None:
    stripes.stripe.fail("GET", "/v1/account", "away")
    assert stripes.choose().status_code == 503


def test_secrets_are_nowhere(stripes: StripeShop, caplog: pytest.LogCaptureFixture, make: Factory) -> None:
    """Neither in logs nor in answers, rows, jobs or events, whatever goes wrong."""
    caplog.set_level(logging.DEBUG)
    payment_id = stripes.pay()
    # Stripe takes the key no longer, and its answer quotes it.
    del stripes.stripe.accounts[stripes.secret_key]
    stripes.shop.refund(payment_id)
    stripes.work.drain()
    stripes.work.hurry()
    assert "Stripe does not let us in" in caplog.text
    stripes.stripe.accounts[stripes.secret_key] = stripes.account
    for fault in ("broken", "away", "slow"):
        stripes.stripe.fail("GET", "/v1/payment_intents", fault)
        stripes.work.hurry()
    stripes.work.hurry()
    assert stripes.payment(payment_id)["status"] == "refunded"
    tables = [
        row.table
        for row in make.rows(
            "select c.oid::regclass::text as table from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where c.relkind in ('r', 'p') and n.nspname in ('public', 'sandbox_gateway')"
        )
    ]
    assert "gateway_accounts" in tables
    kept = [f"{name}: {row.text}" for name in tables for row in make.rows(f"select t::text as text from {name} t")]
    key = stripes.secret_key
    for secret in (key, WEBHOOK_SECRET, key.encode().hex(), WEBHOOK_SECRET.encode().hex()):
        assert [text for text in kept if secret in text] == []
        assert secret not in caplog.text


def test_the_secret_of_the_webhook_is_rotated(stripes: StripeShop) -> None:
    payment_id, new = stripes.pay("action"), "whsec_rotatedSECRET987654321"
    (event,) = stripes.events("payment_intent.requires_action")
    assert stripes.choose(webhook_secret=new).status_code == 200
    assert [stripes.hook(event, secret=secret).status_code for secret in (WEBHOOK_SECRET, new)] == [204, 204]
    stripes.make.rows("update gateway_accounts set previous_until = now() - interval '1 second'")
    assert [stripes.hook(event, secret=secret).status_code for secret in (WEBHOOK_SECRET, new)] == [400, 204]
    assert stripes.payment(payment_id)["status"] == "requires_action"


def test_the_keys_that_secrets_are_encrypted_with_are_rotated(
    stripes: StripeShop, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment_id, before = stripes.pay(), app.extensions["settings"]
    runner = app.test_cli_runner()
    new = runner.invoke(args=["gateways", "new-key"]).output.strip()
    monkeypatch.setitem(app.extensions, "settings", replace(before, secrets_keys=f"{new},{before.secrets_keys}"))
    told = [runner.invoke(args=["gateways", "rotate"]).output for _ in range(2)]
    assert told == ["1 accounts were encrypted anew\n", "0 accounts were encrypted anew\n"]
    monkeypatch.setitem(app.extensions, "settings", replace(before, secrets_keys=new))
    stripes.shop.refund(payment_id)
    stripes.work.drain()
    assert stripes.payment(payment_id)["status"] == "refunded"
    # Without the key nothing is done, and nothing is forgotten.
    monkeypatch.setitem(app.extensions, "settings", before)
    other = str(stripes.shop.pay(stripes.card())["id"])
    stripes.work.drain()
    assert stripes.payment(other)["status"] == "processing"
    monkeypatch.setitem(app.extensions, "settings", replace(before, secrets_keys=new))
    stripes.make.rows("delete from circuit_breakers")
    stripes.work.hurry()
    assert stripes.payment(other)["status"] == "succeeded"


def test_a_secret_that_is_copied_to_another_store_opens_nothing(stripes: StripeShop, make: Factory) -> None:
    thief = make.store(make.user())
    make.rows(
        "insert into gateway_accounts(store_id, id, type, reference, secret_key, webhook_secret)"
        " select %(thief)s, id, type, reference, secret_key, webhook_secret from gateway_accounts",
        {"thief": thief.id},
    )
    (event,) = stripes.events() or [stripes.stripe.tell(stripes.account, "customer.created", {"id": "cus_1"})]
    assert stripes.hook(event, store=thief.id).status_code == 503
    make.rows("delete from gateway_accounts where store_id = %(thief)s", {"thief": thief.id})


def test_another_account_takes_over(stripes: StripeShop) -> None:
    """What was charged stays with the account that charged it; cards that are stored there are charged no more."""
    payment_id, card, old = stripes.pay(), stripes.card(is_default=True), stripes.account
    key = stripes.stripe.key()
    assert stripes.choose(secret_key=key).status_code == 200
    refused = stripes.shop.post(stripes.shop.path, {"payment_method": card, "amount": 500, "currency": "EUR"})
    assert refused.status_code == 422
    stripes.shop.refund(payment_id)
    stripes.work.drain()
    assert stripes.payment(payment_id)["status"] == "refunded"
    assert len(old.all("refunds")) == 1
    stripes.account, stripes.customer = (
        stripes.stripe.accounts[key],
        stripes.stripe.new(stripes.stripe.accounts[key], "customers", "cus", {})["id"],
    )
    other = stripes.pay()
    assert (stripes.payment(other)["status"], len(old.all("payment_intents"))) == ("succeeded", 1)
    # Another key of the first account takes that up again.
    assert stripes.choose(secret_key=stripes.stripe.key(account=old)).status_code == 200
    assert stripes.make.value("select count(*) from gateway_accounts") == 2


def test_a_store_goes_back_to_the_sandbox(stripes: StripeShop) -> None:
    card = stripes.card(is_default=True)
    for _ in range(2):
        answer = stripes.shop.client.put(
            f"{stripes.path}/gateway", json={"type": "sandbox"}, headers=stripes.shop.owner_auth
        )
        assert (answer.status_code, (answer.json or {})["type"]) == (200, "sandbox"), answer.text
    assert stripes.shop.client.get(f"/v1/me/payment-methods/{card}", headers=stripes.shop.auth).status_code == 404
    stripes.shop.pay()
    stripes.work.drain()


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
        "update subscriptions set anchor_at = anchor_at - interval '31 days',"
        " current_period_start = current_period_start - interval '31 days',"
        " current_period_end = current_period_end - interval '31 days', next_action_at = now()"
    )
    make.rows("update subscription_periods set starts_at = starts_at - interval '31 days'")
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
