"""A mail at the end of a job: what the mail server said is written down, whatever becomes of the job."""

from collections.abc import Iterator
from uuid import uuid4

import psycopg2
import pytest

from dues.jobs import LeaseLost, Run, kinds
from dues.mail import service, smtp
from dues.mail.message import Message
from dues.mail.service import Outcome, queue_mail
from dues.postgres import transaction
from tests.factory import Factory
from tests.jobs.conftest import Jobs
from tests.servers import Mailbox
from workers import mail
from workers import retry_db as patience
from workers.mail import send_queued

MESSAGE = Message(subject="Hello", text="Hello.\n", html="<p>Hello.</p>", to_name="Ada")


@pytest.fixture
def run(jobs: Jobs) -> Iterator[Run]:
    """An attempt at the job that sends a mail."""
    with transaction():
        email_id = queue_mail("hello", "ada@example.org", MESSAGE)
    yield Run(*jobs.claimed(jobs.add(kinds.MAILING_SEND, {"email_id": str(email_id)})))
    smtp.disconnect()


def state(make: Factory) -> str:
    return str(make.value("select state from email_sends"))


def test_a_mail_that_is_sent_ends_its_job(run: Run, jobs: Jobs, make: Factory, mailbox: Mailbox):
    send_queued(run, **run.args)
    assert (state(make), jobs.row(run.job_id).status, len(mailbox.mails())) == ("sent", "succeeded", 1)


def test_a_mail_that_is_sent_is_known_to_be_though_its_job_was_lost(
    run: Run, jobs: Jobs, make: Factory, mailbox: Mailbox
):
    jobs.change(run.job_id, f"lease_token = '{uuid4()}'")
    with pytest.raises(LeaseLost):
        send_queued(run, **run.args)
    assert (state(make), jobs.row(run.job_id).status, len(mailbox.mails())) == ("sent", "running", 1)


def test_a_database_that_is_away_is_waited_for(
    run: Run, jobs: Jobs, make: Factory, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch
):
    failures = [psycopg2.OperationalError("terminating connection"), psycopg2.InterfaceError("connection closed")]

    def record(outcome: Outcome) -> None:
        service.record(outcome)
        if failures:
            raise failures.pop()

    monkeypatch.setattr(mail, "record", record)
    monkeypatch.setattr(patience, "_AGAIN_S", 0.01)
    send_queued(run, **run.args)
    assert (state(make), jobs.row(run.job_id).status, len(mailbox.mails())) == ("sent", "succeeded", 1)


def test_nobody_waits_for_ever(run: Run, make: Factory, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch):
    def record(outcome: Outcome) -> None:
        raise psycopg2.OperationalError("the database is gone")

    monkeypatch.setattr(mail, "record", record)
    monkeypatch.setattr(patience, "_AGAIN_S", 0.01)
    monkeypatch.setattr(patience, "PATIENCE_S", 0.05)
    with pytest.raises(psycopg2.OperationalError):
        send_queued(run, **run.args)
    assert state(make) == "committing"
