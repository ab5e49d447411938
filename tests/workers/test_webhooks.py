"""Webhooks through a real relay and real workers, from the write to the receiver."""

from pathlib import Path
from types import SimpleNamespace as Row

import pytest
from standardwebhooks import Webhook

from tests.payments.conftest import Shop, shop
from tests.servers import wait_until
from tests.webhooks.conftest import receiver
from tests.webhooks.receiver import Answer, Call, Receiver
from tests.workers.conftest import Processes
from tests.workers.test_payments import lethal, wait_until_all_is_done

__all__ = ["receiver", "shop"]

QUEUES = "critical:1,default:1,events:1,webhooks:1"


def listen(shop: Shop, receiver: Receiver) -> Webhook:
    endpoint = shop.make.endpoint(shop.store, url=receiver.url)
    return Webhook(endpoint.secret)


def told(calls: list[Call], webhook: Webhook) -> list[str]:
    """What a receiver was told, each event once, in the store's order."""
    events = {call.headers["webhook-id"]: webhook.verify(call.body, call.headers) for call in calls}
    return [event["type"] for event in sorted(events.values(), key=lambda event: int(event["seq"]))]


def test_a_payment_is_told_from_its_beginning_to_its_end(shop: Shop, processes: Processes, receiver: Receiver) -> None:
    webhook = listen(shop, receiver)
    processes.start_both(QUEUES, WEBHOOK_ALLOWED_HOSTS="127.0.0.1")
    payment_id = shop.pay()["id"]
    wait_until_all_is_done(shop)
    assert shop.refund(payment_id, amount=500).status_code == 202
    wait_until_all_is_done(shop)
    assert told(receiver.calls, webhook) == [
        "payment.created",
        "payment.succeeded",
        "invoice.paid",
        "refund.created",
        "refund.succeeded",
        "credit_note.created",
        "payment.partially_refunded",
    ]
    last = max(receiver.events, key=lambda event: int(event["seq"]))
    assert last["data"] == shop.payment(payment_id)


@pytest.mark.parametrize("line", ["webhook.after_post", pytest.param("webhook.before_post", marks=pytest.mark.faults)])
def test_a_worker_that_is_killed_loses_no_delivery(
    line: str, shop: Shop, processes: Processes, receiver: Receiver, tmp_path: Path
) -> None:
    webhook = listen(shop, receiver)
    processes.start_both(QUEUES, **lethal(tmp_path, line), WEBHOOK_ALLOWED_HOSTS="127.0.0.1")
    shop.pay()
    wait_until_all_is_done(shop)
    assert (tmp_path / line).exists()
    assert told(receiver.calls, webhook) == ["payment.created", "payment.succeeded", "invoice.paid"]
    assert len(receiver.calls) == (4 if line.endswith("after_post") else 3)
    assert shop.make.rows("select distinct status from webhook_deliveries") == [Row(status="succeeded")]


def test_webhooks_that_are_due_all_arrive_after_the_receiver_was_away(
    shop: Shop, processes: Processes, receiver: Receiver
) -> None:
    webhook = listen(shop, receiver)
    receiver.always(503)
    processes.start_both(QUEUES, WEBHOOK_ALLOWED_HOSTS="127.0.0.1", WEBHOOK_RETRY_SCALE="3600")
    for _ in range(3):
        shop.pay()
    wait_until(lambda: len(receiver.calls) > 10, 60, "several attempts")
    taken: list[Call] = []

    def take(call: Call) -> Answer:
        taken.append(call)
        return Answer(204)

    receiver.answer = take
    wait_until_all_is_done(shop)
    of_three = ["invoice.paid"] * 3 + ["payment.created"] * 3 + ["payment.succeeded"] * 3
    assert sorted(told(taken, webhook)) == of_three
