"""What Stripe tells of by its webhooks: what is refused, what is of no store, and disputes."""

import time

import pytest

from dues.ids import new_id
from tests.factory import Factory
from tests.payments.stripe_shop import WEBHOOK_SECRET, StripeShop
from tests.payments.stripe_stand_in import signed


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
