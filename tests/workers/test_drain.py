"""Draining a queue: what is due is done here and now, by whoever asks, without Redis."""

import subprocess
import sys

from tests.jobs.conftest import Jobs
from tests.payments.conftest import Shop, shop
from tests.servers import Mailbox, Servers
from tests.workers import deeds
from tests.workers.conftest import Notes
from workers.drain import drain
from workers.job import use_app

__all__ = ["shop"]


def flask_jobs_drain(servers: Servers, queue: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "dues.app:create_base", "jobs", "drain", queue],
        env=servers.environ(REDIS_URL="redis://127.0.0.1:1/0"),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


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
    assert "'urgent' is not one of 'critical', 'default', 'slow', 'webhooks'" in done.stderr
