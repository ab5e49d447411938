"""Draining a queue: what is due is done here and now, by whoever asks, without Redis. Draining workers: told to stop in
the midst of mail, report and webhook, they end in time and nothing is lost."""

import time
from pathlib import Path

import pytest

from tests.forks import Done, flask_command
from tests.jobs.conftest import Jobs
from tests.payments.conftest import Shop, shop
from tests.servers import Mailbox, Servers, wait_until
from tests.webhooks.conftest import receiver
from tests.webhooks.receiver import Receiver
from tests.workers import deeds
from tests.workers.conftest import Notes, Process, Processes, ended
from tests.workers.test_payments import wait_until_all_is_done
from workers.drain import drain
from workers.job import use_app

__all__ = ["receiver", "shop"]

REPORT = {"kind": "payments", "format": "csv", "from": "2020-01-01T00:00:00Z", "to": "2040-01-01T00:00:00Z"}


def flask_jobs_drain(servers: Servers, queue: str) -> Done:
    return flask_command("jobs", "drain", queue, environ=servers.environ(REDIS_URL="redis://127.0.0.1:1/0"))


def test_what_is_due_is_done(in_app, jobs: Jobs, notes: Notes):
    use_app(in_app)
    due, later = jobs.add(deeds.NOTE, notes.args), jobs.add(deeds.NOTE, notes.args)
    jobs.change(later, "run_at = now() + interval '1 h'")
    again = jobs.add(deeds.FAIL, {"how": "retry"})
    assert drain("default") == 2
    assert [jobs.row(job_id).status for job_id in (due, later, again)] == ["succeeded", "queued", "queued"]
    assert drain("default") == 0


def test_a_payment_is_confirmed_without_redis_and_without_workers(shop: Shop, servers: Servers, mailbox: Mailbox):
    payment_id = shop.pay()["id"]
    for queue in ("critical", "default"):
        done = flask_jobs_drain(servers, queue)
        assert done.returncode == 0, done.stderr
        assert f"1 attempts at jobs of {queue}" in done.stdout
    assert shop.payment(payment_id)["status"] == "succeeded"
    assert len(mailbox.mails()) == 1


def test_a_queue_that_there_is_not(servers: Servers):
    done = flask_jobs_drain(servers, "urgent")
    assert done.returncode == 2
    assert "'urgent' is not one of 'critical', 'default', 'events', 'bulk', 'slow', 'webhooks'" in done.stderr


class Busy:
    """Workers of every queue, and what keeps them at work: a receiver that does not answer, a report that stands still,
    a mail server that takes its time."""

    def __init__(self, shop: Shop, processes: Processes, receiver: Receiver, mailbox: Mailbox, folder: Path) -> None:
        self.shop, self._processes, self._receiver, self._mailbox = shop, processes, receiver, mailbox
        self._stopped = folder / "report.after_batch"
        shop.make.endpoint(shop.store, url=receiver.url)

    def start(self, drain_s: float) -> None:
        self._processes.start("relay")
        self.workers = self.start_workers(drain_s)

    def start_workers(self, drain_s: float) -> Process:
        return self._processes.start(
            "workers",
            drain_s=drain_s,
            WORKER_QUEUES="critical:1,default:1,events:1,bulk:1,slow:1,webhooks:1",
            WEBHOOK_ALLOWED_HOSTS="127.0.0.1",
            WEBHOOK_TIMEOUT_S="30",
            DUES_FAILPOINTS=f"report.after_batch=stop:{self._stopped}",
        )

    def fill(self) -> str:
        """Returns: the report's path, when all three are at it."""
        self._receiver.delay_s = 60
        self.shop.pay()
        wait_until(lambda: self._receiver.calls and len(self._mailbox.mails()) == 1, 20, "a webhook, after a mail")
        self._mailbox.behave(delay_ms=500)
        asked = self.shop.post(f"/v1/stores/{self.shop.store.id}/reports", REPORT, self.shop.owner_auth)
        wait_until(self._stopped.exists, 20, "a report")
        self.shop.pay()
        mails = "select id from email_sends where state = 'committing'"
        wait_until(lambda: self.shop.make.rows(mails), 20, "a mail before its dot")
        return str((asked.json or {})["links"]["self"])

    def relieve(self) -> None:
        """Nothing keeps anybody from now on."""
        self._receiver.delay_s = 0
        self._mailbox.behave()

    def attempts(self) -> dict[str, set[tuple[str, int]]]:
        """The status and attempts of the jobs of each kind."""
        found: dict[str, set[tuple[str, int]]] = {}
        for job in self.shop.make.rows("select kind, status, attempt from jobs"):
            found.setdefault(job.kind, set()).add((job.status, job.attempt))
        return found


@pytest.fixture
def busy(shop: Shop, processes: Processes, receiver: Receiver, mailbox: Mailbox, tmp_path: Path) -> Busy:
    return Busy(shop, processes, receiver, mailbox, tmp_path)


@pytest.mark.parametrize("drain_s", [1.0, pytest.param(20.0, marks=pytest.mark.faults)])
def test_workers_told_to_stop_amid_mail_report_and_webhook(
    drain_s: float, busy: Busy, mailbox: Mailbox, receiver: Receiver
) -> None:
    busy.start(drain_s)
    report = busy.fill()
    told_at = time.monotonic()
    busy.workers.terminate()
    assert ended(busy.workers, 25) == 0
    took_s = time.monotonic() - told_at
    print(f"workers with {drain_s:g} s to drain ended after {took_s:.1f} s")
    assert took_s < drain_s + 5
    left = busy.attempts()
    assert left["report.build"] == {("queued", 0)}
    assert left["webhook.deliver"] == {("queued", 0)}
    # Its last moment may have come before the mail server's answer.
    assert left["payment.confirmation"] <= {("succeeded", 1), ("queued", 0)}
    busy.relieve()
    busy.start_workers(drain_s)
    wait_until_all_is_done(busy.shop)
    assert {outcome for found in busy.attempts().values() for outcome in found} == {("succeeded", 1)}
    assert len(mailbox.mails()) == 2
    assert busy.shop.get(report, busy.shop.owner_auth)["rows"] == 2
    told = {event["seq"]: event["type"] for event in receiver.events}
    of_two = ["invoice.paid"] * 2 + ["payment.created"] * 2 + ["payment.succeeded"] * 2
    assert sorted(told.values()) == [*of_two, "report.succeeded"]
