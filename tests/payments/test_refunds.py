"""Refunds: of a part and of the rest, once whatever becomes of the answer, and refused by the gateway."""

from pathlib import Path

import pytest

from dues import failpoints
from dues.payments import processing
from tests.factory import Factory
from tests.payments.conftest import Shop, Work
from tests.payments.deaf_gateways import Deaf, Forgetful
from tests.servers import Mailbox


def test_refunds_of_a_part_and_of_the_rest(shop: Shop, work: Work, mailbox: Mailbox) -> None:
    payment_id = shop.pay()["id"]
    work.drain()
    for amount, status, refunded in [(400, "partially_refunded", 400), (100, "partially_refunded", 500)]:
        answer = shop.refund(payment_id, amount=amount, reason="broken")
        assert answer.status_code == 202
        assert answer.json
        assert (answer.json["status"], answer.json["amount"], answer.json["reason"]) == ("pending", amount, "broken")
        work.drain()
        payment = shop.payment(payment_id)
        assert (payment["status"], payment["refunded_amount"]) == (status, refunded)
        refund = shop.get(answer.json["links"]["self"])
        assert refund["status"] == "succeeded"
        assert shop.job(refund["links"]["job"]).owner_id == shop.owner.id
    assert shop.refund(payment_id).status_code == 202
    work.drain()
    payment = shop.payment(payment_id)
    assert (payment["status"], payment["refunded_amount"]) == ("refunded", 1500)
    assert shop.events(payment_id)[2:] == ["succeeded", "partially_refunded", "partially_refunded", "refunded"]
    refunds = shop.get(payment["links"]["refunds"])["data"]
    assert [refund["amount"] for refund in refunds] == [1000, 100, 400]
    subjects = [mail["Subject"] for mail in mailbox.mails()]
    assert [subject.rpartition(": ")[2] for subject in subjects] == ["15.00 EUR", "4.00 EUR", "1.00 EUR", "10.00 EUR"]


def test_a_refund_whose_answer_is_lost_is_made_once(
    shop: Shop, work: Work, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, make: Factory
) -> None:
    payment_id = shop.pay()["id"]
    work.drain()
    gateway = Forgetful()
    monkeypatch.setattr(processing, "gateway_of", lambda *_: gateway)
    shop.refund(payment_id, amount=700)
    work.drain()
    assert (gateway.asked, shop.payment(payment_id)["refunded_amount"]) == (1, 0)
    work.hurry()
    assert (gateway.asked, shop.payment(payment_id)["refunded_amount"]) == (2, 700)
    assert make.value("select sum(amount) from sandbox_gateway.operations where kind = 'refund'") == 700
    assert len(mailbox.mails()) == 2


def test_a_refund_that_the_gateway_refuses_leaves_the_payment_as_it_is(shop: Shop, work: Work, make: Factory) -> None:
    # Never charged at the gateway, whatever the row says.
    payment = make.payment(shop.store, shop.customer)
    refund = shop.refund(payment.id).json or {}
    work.drain()
    assert shop.get(refund["links"]["self"])["status"] == "failed"
    found = shop.payment(payment.id)
    assert (found["status"], found["refunded_amount"]) == ("succeeded", 0)
    # What failed can be asked for again.
    assert shop.refund(payment.id).status_code == 202


@pytest.mark.parametrize("line", ["payment.before_refund", "payment.after_refund", "payment.before_refund_commit"])
def test_a_refund_that_fails_anywhere_is_made_once(
    shop: Shop, work: Work, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    payment_id = shop.pay()["id"]
    work.drain()
    monkeypatch.setattr(failpoints, "_armed", failpoints.parse(f"{line}=raise:{tmp_path / 'marker'}"))
    shop.refund(payment_id, amount=700)
    for _ in range(2):
        work.hurry()
    assert (tmp_path / "marker").exists()
    assert shop.payment(payment_id)["refunded_amount"] == 700
    assert shop.make.value("select sum(amount) from sandbox_gateway.operations where kind = 'refund'") == 700
    assert len(mailbox.mails()) == 2


def test_a_refund_that_is_given_up_is_taken_over(
    shop: Shop, work: Work, monkeypatch: pytest.MonkeyPatch, make: Factory
) -> None:
    payment_id = shop.pay()["id"]
    work.drain()
    refund = shop.refund(payment_id).json or {}
    make.rows("update jobs set max_attempts = 1 where status = 'queued'")
    with monkeypatch.context() as patch:
        patch.setattr(processing, "gateway_of", lambda *_: Deaf())
        work.drain()
    assert shop.job(refund["links"]["job"]).status == "failed"
    pending = shop.get(refund["links"]["self"])
    assert (pending["status"], pending["links"]["job"] == refund["links"]["job"]) == ("pending", False)
    work.hurry()
    assert shop.payment(payment_id)["status"] == "refunded"
