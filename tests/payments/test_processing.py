"""Payments from the request through relay and worker to the mail, with every method of the sandbox, and with attempts
that fail at each critical line."""

from pathlib import Path

import pytest
from flask import Flask

from dues import failpoints
from dues.clock import rfc3339
from dues.payments import processing
from dues.payments.gateway import Charge, GatewayTimeout, Operation
from dues.payments.sandbox import Sandbox
from tests.factory import Factory
from tests.payments.conftest import Shop, Work
from tests.payments.deaf_gateways import Deaf
from tests.servers import Mailbox


@pytest.mark.typeset
def test_a_payment_succeeds_and_is_confirmed_by_mail(shop: Shop, work: Work, mailbox: Mailbox, make: Factory) -> None:
    package = make.package(shop.store, name="Gold", amount=4900)
    accepted = shop.pay(package_id=str(package.id))
    assert (accepted["status"], accepted["links"]["confirmation"]) == ("pending", None)
    assert (accepted["amount"], accepted["currency"], accepted["description"]) == (4900, "EUR", "Gold")
    work.drain()
    payment = shop.payment(accepted["id"])
    assert (payment["status"], payment["failure_code"], payment["refunded_amount"]) == ("succeeded", None, 0)
    assert shop.events(payment["id"]) == ["pending", "processing", "succeeded"]
    assert shop.charged(payment["id"]) == [4900]
    for link in ("job", "confirmation"):
        job = shop.job(payment["links"][link])
        assert (job.status, job.owner_id, job.store_id) == ("succeeded", shop.customer.id, shop.store.id)
    assert shop.job(payment["links"]["job"]).result == {
        "href": payment["links"]["self"],
        "type": "application/json",
    }
    (mail,) = mailbox.mails()
    assert mail["Delivered-To"] == shop.customer.email
    assert mail["Subject"] == f"Your payment to {shop.store.name}: 49.00 EUR"
    parts = {part.get_content_type() for part in mail.walk()}
    assert {"text/plain", "text/html", "application/pdf"} <= parts
    files = list(mail.iter_attachments())
    assert [file.get_filename() for file in files] == ["invoice-INV-000001.pdf", "receipt-R-000001.pdf"]
    assert all(file.get_content().startswith(b"%PDF-") for file in files)
    text = mail.get_body(("plain",))
    assert text
    assert "Gold" in text.get_content()
    assert "Receipt number: R-000001" in text.get_content()


def test_a_gateway_that_does_not_answer_is_left_alone_for_a_while(
    shop: Shop, work: Work, make: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*args: object) -> Operation:
        raise GatewayTimeout("no answer")

    with monkeypatch.context() as outage:
        outage.setattr(Sandbox, "charge", silent)
        payments = [shop.pay()["id"] for _ in range(12)]
        work.drain()
    # Those that it was not asked about may still be charged.
    assert [shop.payment(payment)["status"] for payment in payments] == ["unknown"] * 10 + ["processing"] * 2
    waiting = [shop.job(shop.payment(payment)["links"]["job"]) for payment in payments[10:]]
    assert [(job.status, job.attempt) for job in waiting] == [("queued", 0), ("queued", 0)]
    make.rows("update circuit_breakers set open_until = now()")
    work.hurry()
    assert [shop.payment(payment)["status"] for payment in payments] == ["failed"] * 10 + ["succeeded"] * 2
    assert [shop.charged(payment) for payment in payments] == [[]] * 10 + [[1500]] * 2
    assert make.rows("select 1 from circuit_breakers") == []


def test_a_declined_charge_is_a_job_that_succeeded(shop: Shop, work: Work, mailbox: Mailbox) -> None:
    payment_id = shop.pay("sandbox_declined")["id"]
    work.drain()
    payment = shop.payment(payment_id)
    assert (payment["status"], payment["failure_code"]) == ("failed", "card_declined")
    assert shop.job(payment["links"]["job"]).status == "succeeded"
    assert payment["links"]["confirmation"] is None
    assert shop.events(payment_id) == ["pending", "processing", "failed"]
    assert shop.charged(payment_id) == []
    (mail,) = mailbox.mails()
    assert mail["Subject"] == f"Your payment to {shop.store.name} did not go through"


@pytest.mark.parametrize(
    ("outcome", "status", "failure_code", "mails"),
    [("succeed", "succeeded", None, 1), ("fail", "failed", "authentication_failed", 0)],
)
def test_a_payment_that_requires_action(
    shop: Shop, work: Work, mailbox: Mailbox, outcome: str, status: str, failure_code: str | None, mails: int
) -> None:
    payment_id = shop.pay("sandbox_action")["id"]
    work.drain()
    waiting = shop.payment(payment_id)
    assert (waiting["status"], waiting["links"]["confirmation"]) == ("requires_action", None)
    assert shop.charged(payment_id) == []
    answer = shop.post(waiting["next_action"]["href"], {"outcome": outcome})
    assert answer.status_code == 202
    assert answer.json
    assert (answer.json["status"], answer.json["next_action"]) == ("processing", None)
    assert answer.headers["Location"] == answer.json["links"]["job"] != waiting["links"]["job"]
    again = shop.post(waiting["next_action"]["href"], {"outcome": "succeed"})
    assert again.status_code == 409
    assert again.json
    assert again.json["code"] == "invalid_transition"
    work.drain()
    payment = shop.payment(payment_id)
    assert (payment["status"], payment["failure_code"]) == (status, failure_code)
    assert shop.events(payment_id) == ["pending", "processing", "requires_action", "processing", status]
    assert len(shop.charged(payment_id)) == mails
    # The reminder that was due in a while has nothing to say.
    work.hurry()
    (mail,) = mailbox.mails()
    assert mail["Subject"].startswith(f"Your payment to {shop.store.name}" + (": 15.00 EUR" if mails else " did not"))


@pytest.mark.parametrize(
    ("method", "status", "failure_code", "charges"),
    [("sandbox_timeout", "failed", "gateway_timeout", 0), ("sandbox_lost_answer", "succeeded", None, 1)],
)
def test_a_gateway_that_does_not_answer(
    shop: Shop,
    work: Work,
    mailbox: Mailbox,
    make: Factory,
    method: str,
    status: str,
    failure_code: str | None,
    charges: int,
) -> None:
    accepted = shop.pay(method)
    work.drain()
    unknown = shop.payment(accepted["id"])
    assert (unknown["status"], unknown["links"]["confirmation"]) == ("unknown", None)
    assert shop.job(accepted["links"]["job"]).status == "succeeded"
    job = shop.job(unknown["links"]["job"])
    assert (job.kind, job.status, job.owner_id) == ("payment.reconcile", "queued", shop.customer.id)
    assert make.value("select run_at - created_at < interval '30 s' from jobs where id = %(id)s", {"id": job.id})
    work.hurry()
    payment = shop.payment(accepted["id"])
    assert (payment["status"], payment["failure_code"]) == (status, failure_code)
    assert shop.events(payment["id"]) == ["pending", "processing", "unknown", status]
    assert len(shop.charged(payment["id"])) == charges
    (mail,) = mailbox.mails()
    assert ("did not go through" in mail["Subject"]) == (not charges)
    assert shop.job(payment["links"]["job"]).status == "succeeded"


def test_reconciliation_goes_on_until_the_gateway_knows(
    shop: Shop, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    payment_id = shop.pay("sandbox_lost_answer")["id"]
    work.drain()
    with monkeypatch.context() as patch:
        patch.setattr(processing, "gateway_of", lambda *_: Deaf())
        work.hurry()
        work.hurry()
    job = shop.job(shop.payment(payment_id)["links"]["job"])
    assert (job.status, job.attempt, job.error["type"]) == ("queued", 2, "/problems/gateway_timeout")
    assert shop.payment(payment_id)["status"] == "unknown"
    work.hurry()
    assert shop.payment(payment_id)["status"] == "succeeded"


def test_a_payment_closed_at_the_gateway_is_never_charged(shop: Shop, work: Work, app: Flask) -> None:
    payment_id = shop.pay("sandbox_timeout")["id"]
    work.drain()
    work.hurry()
    with app.app_context():
        late = Sandbox().charge(Charge(key=payment_id, amount=1500, currency="EUR", method="sandbox_ok"))
    assert late.outcome == "declined"
    assert shop.charged(payment_id) == []


CHARGE_LINES = ["payment.before_charge", "payment.after_charge", "payment.before_commit", "payment.after_commit"]
MAIL_LINES = ["mail.before_claim", "mail.after_reply", "mail.before_record", "mail.after_record"]


@pytest.mark.parametrize("line", [*CHARGE_LINES, *MAIL_LINES])
@pytest.mark.parametrize("method", ["sandbox_ok", "sandbox_lost_answer"])
def test_an_attempt_that_fails_anywhere_is_made_again_and_charges_once(
    shop: Shop,
    work: Work,
    mailbox: Mailbox,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    line: str,
    method: str,
) -> None:
    armed = failpoints.parse(f"{line}=raise:{tmp_path / 'marker'}")
    monkeypatch.setattr(failpoints, "_armed", armed)
    payment_id = shop.pay(method)["id"]
    for _ in range(3):
        work.hurry()
    assert (tmp_path / "marker").exists()
    assert shop.payment(payment_id)["status"] == "succeeded"
    assert shop.charged(payment_id) == [1500]
    assert len(mailbox.mails()) == 1
    assert shop.make.rows("select kind, status from jobs where status <> 'succeeded'") == []


def test_a_rerun_asks_before_it_charges(shop: Shop, work: Work, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Watched(Sandbox):
        def find(self, charge: Charge) -> Operation | None:
            asked.append("find")
            return super().find(charge)

        def charge(self, charge: Charge) -> Operation:
            asked.append("charge")
            Sandbox().charge(charge)
            raise ConnectionError("the worker had an accident")

    monkeypatch.setattr(processing, "gateway_of", lambda *_: Watched())
    payment_id = shop.pay()["id"]
    work.drain()
    assert shop.payment(payment_id)["status"] == "processing"
    work.hurry()
    assert asked == ["charge", "find"]
    assert shop.payment(payment_id)["status"] == "succeeded"


def test_a_charge_that_is_given_up_is_left_to_reconciliation(
    shop: Shop, work: Work, monkeypatch: pytest.MonkeyPatch, make: Factory
) -> None:
    class Broken(Sandbox):
        def charge(self, charge: Charge) -> Operation:
            super().charge(charge)
            raise ConnectionError("as always")

        def find(self, charge: Charge) -> Operation | None:
            raise ConnectionError("as always")

    accepted = shop.pay()
    make.rows("update jobs set max_attempts = 2")
    with monkeypatch.context() as patch:
        patch.setattr(processing, "gateway_of", lambda *_: Broken())
        work.hurry()
        work.hurry()
    assert shop.job(accepted["links"]["job"]).status == "failed"
    assert shop.payment(accepted["id"])["status"] == "unknown"
    work.hurry()
    assert shop.payment(accepted["id"])["status"] == "succeeded"
    assert shop.charged(accepted["id"]) == [1500]


def test_a_reconciliation_that_is_given_up_is_taken_over(
    shop: Shop, work: Work, monkeypatch: pytest.MonkeyPatch, make: Factory
) -> None:
    payment_id = shop.pay("sandbox_timeout")["id"]
    work.drain()
    first = shop.payment(payment_id)["links"]["job"]
    make.rows("update jobs set max_attempts = 1 where status = 'queued'")
    with monkeypatch.context() as patch:
        patch.setattr(processing, "gateway_of", lambda *_: Deaf())
        work.hurry()
    assert shop.job(first).status == "failed"
    second = shop.payment(payment_id)["links"]["job"]
    assert second != first
    work.hurry()
    assert shop.payment(payment_id)["failure_code"] == "gateway_timeout"


def test_a_mail_that_is_refused_fails_its_job_and_not_the_payment(shop: Shop, work: Work, mailbox: Mailbox) -> None:
    mailbox.behave(next=[{"at": "rcpt", "do": "550"}])
    payment_id = shop.pay()["id"]
    work.drain()
    payment = shop.payment(payment_id)
    assert payment["status"] == "succeeded"
    job = shop.job(payment["links"]["confirmation"])
    assert (job.status, job.error["status"], job.error["type"]) == ("failed", 502, "/problems/mail_not_sent")
    assert shop.make.value("select state from email_sends") == "rejected"
    assert mailbox.mails() == []


@pytest.mark.parametrize("method", ["sandbox_ok", "sandbox_action", "sandbox_lost_answer"])
def test_a_payment_is_paid_when_it_succeeds_and_stays_so(shop: Shop, work: Work, make: Factory, method: str) -> None:
    payment_id = shop.pay(method)["id"]
    assert shop.payment(payment_id)["paid_at"] is None
    work.drain()
    if method == "sandbox_action":
        assert shop.payment(payment_id)["paid_at"] is None
        shop.post(f"{shop.path}/{payment_id}/confirmations", {"outcome": "succeed"})
    work.hurry()
    paid = shop.payment(payment_id)
    event = "select created_at from payment_events where payment_id = %(id)s and to_status = 'succeeded'"
    assert paid["paid_at"] == rfc3339(make.value(event, {"id": payment_id}))
    shop.refund(payment_id, amount=700)
    work.drain()
    shop.refund(payment_id)
    refunds = f"{shop.path}/{payment_id}/refunds"
    assert [refund["settled_at"] is None for refund in shop.get(refunds)["data"]] == [True, False]
    work.drain()
    assert shop.payment(payment_id)["paid_at"] == paid["paid_at"]
    second, first = shop.get(f"{refunds}?sort=-settled_at")["data"]
    assert paid["paid_at"] < first["settled_at"] < second["settled_at"]
    found = shop.get(f"{refunds}?settled_at[gt]={first['settled_at']}&status=succeeded")["data"]
    assert [refund["id"] for refund in found] == [second["id"]]
    found = shop.get(f"{shop.path}?paid_at={paid['paid_at']}")["data"]
    assert [payment["id"] for payment in found] == [payment_id]


def test_what_is_never_paid_has_no_time(shop: Shop, work: Work) -> None:
    ids = [shop.pay(method)["id"] for method in ("sandbox_declined", "sandbox_timeout")]
    work.drain()
    work.hurry()
    assert [shop.payment(payment_id)["status"] for payment_id in ids] == ["failed", "failed"]
    assert [shop.payment(payment_id)["paid_at"] for payment_id in ids] == [None, None]
