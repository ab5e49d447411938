"""Payments through real relays and workers that are killed at the worst moments: one charge, one mail, and every status
URL comes to its end."""

from pathlib import Path

import pytest

from tests.payments.conftest import Shop, shop
from tests.servers import Mailbox, wait_until
from tests.workers.conftest import Processes

__all__ = ["shop"]

CHARGE = ["payment.before_charge", "payment.after_charge", "payment.before_commit", "payment.after_commit"]
MAIL = ["mail.before_claim", "mail.before_committing", "mail.before_dot", "mail.after_reply", "mail.after_record"]
RECONCILE = ["payment.before_close", "payment.after_close"]
REFUND = ["payment.before_refund", "payment.after_refund", "payment.before_refund_commit"]


def lethal(folder: Path, *lines: str) -> dict[str, str]:
    """The environment in which a process dies at each of these lines, once, and nothing is waited for long."""
    armed = ",".join(f"{line}=kill:{folder / line}" for line in lines)
    return {"DUES_FAILPOINTS": armed, "JOB_LEASE_S": "1", "SMTP_TIMEOUT_S": "2"}


def wait_until_all_is_done(shop: Shop) -> None:
    wait_until(
        lambda: not shop.make.rows("select id from jobs where status in ('queued', 'running')"), 60, "all jobs to end"
    )
    assert shop.make.rows("select kind, error from jobs where status <> 'succeeded'") == []


def test_workers_killed_during_the_charge_and_the_mail(
    shop: Shop, processes: Processes, mailbox: Mailbox, tmp_path: Path
) -> None:
    lines = "payment.after_charge", "mail.after_reply"
    processes.start_both("critical:1,default:1", **lethal(tmp_path, *lines))
    payment_id = shop.pay()["id"]
    wait_until_all_is_done(shop)
    assert all((tmp_path / line).exists() for line in lines)
    assert shop.payment(payment_id)["status"] == "succeeded"
    assert shop.events(payment_id) == ["pending", "processing", "succeeded"]
    assert shop.charged(payment_id) == [1500]
    assert len(mailbox.mails()) == 1


@pytest.mark.faults
@pytest.mark.parametrize("line", [*CHARGE, *MAIL])
def test_a_worker_killed_at_each_line_of_a_payment(
    shop: Shop, processes: Processes, mailbox: Mailbox, tmp_path: Path, line: str
) -> None:
    processes.start_both("critical:1,default:1", **lethal(tmp_path, line))
    payment_id = shop.pay()["id"]
    wait_until_all_is_done(shop)
    assert (tmp_path / line).exists()
    assert shop.payment(payment_id)["status"] == "succeeded"
    assert shop.charged(payment_id) == [1500]
    assert len(mailbox.mails()) == 1


@pytest.mark.faults
@pytest.mark.parametrize("line", RECONCILE)
@pytest.mark.parametrize(
    ("method", "status", "charged"), [("sandbox_timeout", "failed", []), ("sandbox_lost_answer", "succeeded", [1500])]
)
def test_a_worker_killed_while_it_reconciles(
    shop: Shop,
    processes: Processes,
    mailbox: Mailbox,
    tmp_path: Path,
    line: str,
    method: str,
    status: str,
    charged: list[int],
) -> None:
    processes.start_both("critical:1,default:1", **lethal(tmp_path, line))
    payment_id = shop.pay(method)["id"]
    wait_until(lambda: shop.payment(payment_id)["status"] == status, 30, f"the payment to be {status}")
    wait_until_all_is_done(shop)
    assert (tmp_path / line).exists()
    assert shop.charged(payment_id) == charged
    assert len(mailbox.mails()) == len(charged)


@pytest.mark.faults
@pytest.mark.parametrize("line", REFUND)
def test_a_worker_killed_at_each_line_of_a_refund(
    shop: Shop, processes: Processes, mailbox: Mailbox, tmp_path: Path, line: str
) -> None:
    processes.start_both("critical:1,default:1", **lethal(tmp_path, line))
    payment_id = shop.pay()["id"]
    wait_until_all_is_done(shop)
    shop.refund(payment_id, amount=700)
    wait_until_all_is_done(shop)
    assert (tmp_path / line).exists()
    payment = shop.payment(payment_id)
    assert (payment["status"], payment["refunded_amount"]) == ("partially_refunded", 700)
    assert shop.make.value("select sum(amount) from sandbox_gateway.operations where kind = 'refund'") == 700
    assert len(mailbox.mails()) == 2
