"""A store's account at Stripe: who may choose it, what becomes of its secrets, and moving to another."""

import logging
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from msgspec.structs import replace

from tests.factory import Factory
from tests.payments.stripe_shop import WEBHOOK_SECRET, StripeShop


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


@pytest.mark.usefixtures("mailbox")
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


def test_what_no_key_decrypts_keeps_no_other_from_being_rotated(
    stripes: StripeShop, app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, before = stripes.shop.store.id, app.extensions["settings"]
    # What is copied is bound to its place. One is before the account that can be read, one behind it.
    lost = [UUID("00000000-0000-7000-8000-000000000000"), UUID("ffffffff-ffff-7fff-bfff-ffffffffffff")]
    for account in lost:
        make.rows(
            "insert into gateway_accounts(store_id, id, type, reference, secret_key, webhook_secret, replaced_at)"
            " select store_id, %(id)s, type, %(id)s::text, secret_key, webhook_secret, now()"
            " from gateway_accounts limit 1",
            {"id": account},
        )
    runner = app.test_cli_runner()
    new = runner.invoke(args=["gateways", "new-key"]).output.strip()
    monkeypatch.setitem(app.extensions, "settings", replace(before, secrets_keys=f"{new},{before.secrets_keys}"))
    done = runner.invoke(args=["gateways", "rotate"])
    assert (done.exit_code, done.stdout) == (1, "1 accounts were encrypted anew\n")
    assert done.stderr.count(f"store {own}: none of SECRETS_KEYS decrypts its secrets") == 2
    assert done.stderr.endswith("Error: 2 accounts are as they were\n")
    monkeypatch.setitem(app.extensions, "settings", replace(before, secrets_keys=""))
    done = runner.invoke(args=["gateways", "rotate"])
    assert (done.exit_code, done.stderr) == (1, "Error: SECRETS_KEYS is not set, so no secret can be kept\n")
    make.rows("delete from gateway_accounts where id = any(%(lost)s)", {"lost": lost})
    monkeypatch.setitem(app.extensions, "settings", replace(before, secrets_keys=f"{before.secrets_keys},{new}"))
    assert runner.invoke(args=["gateways", "rotate"]).exit_code == 0


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
