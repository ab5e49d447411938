"""What the client makes of answers: typed values, whatever a newer server adds, and webhooks."""

import base64
import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from dues_client import Money, WebhookEvent, webhooks
from dues_client._model import body_of, query_of
from dues_client.errors import InvalidSignature
from dues_client.models import Job, Payment, PaymentSucceededEvent, Report

from dues.money import MINOR_DIGITS
from dues.webhooks.signing import signed_headers

pytestmark = pytest.mark.unit

PAYMENT: dict[str, Any] = {
    "id": "p",
    "amount": 1050,
    "currency": "KWD",
    "status": "a status of next year",
    "created_at": "2026-11-20T14:39:00.123456+00:00",
    "user": {"id": "u", "name": "Ada"},
    "refunds": [{"id": "r", "amount": 5, "currency": "KWD"}],
    "next_action": None,
    "new_field": [1],
}


def test_a_model_reads_its_json() -> None:
    payment = Payment(PAYMENT)
    assert payment.created_at == datetime(2026, 11, 20, 14, 39, 0, 123456, UTC)
    assert payment.user
    assert payment.user.name == "Ada"
    assert str(payment.refunds[0].money) == "0.005 KWD"
    assert payment.next_action is None
    assert payment.to_dict() == PAYMENT
    assert payment == Payment(dict(PAYMENT))
    assert "Payment(id='p'" in repr(payment)


def test_what_a_newer_server_adds_is_passed_on() -> None:
    payment = Payment(PAYMENT)
    assert payment.status == "a status of next year"
    assert payment.new_field == [1]  # type: ignore[attr-defined]


def test_what_was_not_asked_for_is_not_made_up() -> None:
    with pytest.raises(AttributeError, match="was not in the answer"):
        _ = Payment(PAYMENT).description
    assert not hasattr(Payment(PAYMENT), "package")


def test_words_that_python_keeps_for_itself() -> None:
    report = Report({"from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00+00:00"})
    assert report.from_ == datetime(2026, 1, 1, tzinfo=UTC)
    assert report.to == datetime(2026, 2, 1, tzinfo=UTC)


def test_nested_objects_are_typed() -> None:
    job = Job({"progress": {"percent": 34.0, "completed": 34, "total": 100, "unit": "rows"}, "error": None})
    assert job.progress
    assert job.progress.percent == 34.0


def test_money_knows_every_currency_in_use() -> None:
    for currency, digits in MINOR_DIGITS.items():
        assert Money(1, currency).exponent == digits, currency
    assert str(Money(123456, "EUR")) == "1,234.56 EUR"
    assert str(Money(-5, "JPY")) == "-5 JPY"
    assert Money(1999, "EUR").decimal == Decimal("19.99")


def test_times_need_their_zone() -> None:
    assert query_of({"at": datetime(2026, 1, 1, tzinfo=UTC), "x": None}) == {"at": "2026-01-01T00:00:00+00:00"}
    with pytest.raises(ValueError, match="time zone"):
        body_of({"at": datetime(2026, 1, 1)})


SECRETS = ["whsec_" + base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2, 3)]
EVENT = json.dumps(
    {"type": "payment.succeeded", "timestamp": "2026-01-01T00:00:00Z", "store_id": "s", "seq": 7, "data": PAYMENT}
)


EVENT_ID = UUID("019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20")


def signed(body: str, *secrets: str, at: int | None = None) -> dict[str, str]:
    """Headers as Dues itself sends them, with their names as some framework writes them."""
    moment = int(time.time()) if at is None else at
    headers = signed_headers(secrets, EVENT_ID, moment, body.encode())
    return {name.title(): value for name, value in headers.items()}


def test_a_webhook_becomes_the_event_of_its_type() -> None:
    event = webhooks.verify(EVENT.encode(), signed(EVENT, SECRETS[0]), SECRETS[0])
    assert isinstance(event, PaymentSucceededEvent)
    assert (event.id, event.seq, event.data.amount) == (str(EVENT_ID), 7, 1050)
    strange = EVENT.replace("payment.succeeded", "payment.forgiven")
    event = webhooks.verify(strange, signed(strange, SECRETS[0]), SECRETS[0])
    assert type(event) is WebhookEvent
    assert event.type == "payment.forgiven"


@pytest.mark.parametrize("known", [SECRETS[0], SECRETS[1], [SECRETS[2], SECRETS[1]]])
def test_while_a_secret_rotates_either_will_do(known: Any) -> None:
    webhooks.verify(EVENT, signed(EVENT, SECRETS[0], SECRETS[1]), known)


@pytest.mark.parametrize(
    ("body", "headers", "secret"),
    [
        (EVENT, signed(EVENT, SECRETS[0]), SECRETS[1]),
        (EVENT + " ", signed(EVENT, SECRETS[0]), SECRETS[0]),
        (EVENT, signed(EVENT, SECRETS[0], at=1), SECRETS[0]),
        (EVENT, signed(EVENT, SECRETS[0]) | {"Webhook-Timestamp": "now"}, SECRETS[0]),
        (EVENT, signed(EVENT, SECRETS[0]) | {"Webhook-Id": "other"}, SECRETS[0]),
        (EVENT, {}, SECRETS[0]),
        (EVENT, signed(EVENT, SECRETS[0]), "whsec_??"),
        (EVENT, signed(EVENT, SECRETS[0]) | {"Webhook-Signature": ""}, SECRETS[0]),
        # What a stranger may send, as some frameworks hand it on: none of it is an error of the receiver's.
        (EVENT, signed(EVENT, SECRETS[0]) | {"Webhook-Timestamp": "9" * 400}, SECRETS[0]),
        (EVENT, signed(EVENT, SECRETS[0]) | {"Webhook-Timestamp": "9" * 5000}, SECRETS[0]),
        (EVENT, signed(EVENT, SECRETS[0]) | {"Webhook-Timestamp": "٣"}, SECRETS[0]),
        (EVENT, signed(EVENT, SECRETS[0]) | {"Webhook-Id": "\udcff"}, SECRETS[0]),
        (EVENT, signed(EVENT, SECRETS[0]) | {"Webhook-Signature": "v1,\udcff v1,é"}, SECRETS[0]),
    ],
)
def test_what_is_not_signed_is_refused(body: str, headers: dict[str, str], secret: str) -> None:
    with pytest.raises(InvalidSignature):
        webhooks.verify(body, headers, secret)
