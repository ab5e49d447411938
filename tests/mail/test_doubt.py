"""Mails that may or may not have been accepted: ask where that is possible, never guess."""

import logging
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from dues.app import create_base
from dues.mail.ledger import count_unknown
from dues.mail.service import MailDeferred, record, send
from dues.postgres import transaction
from local.mailsink import MailSink
from tests.forks import run_forked
from tests.mail.conftest import TIMEOUT_S, PostOffice
from tests.servers import Mailbox, Servers, running

Configured = Callable[..., PostOffice]


def send_alone(email_id: UUID) -> None:
    """Send a mail as a job does."""
    with create_base().app_context():
        outcome = send(email_id, fence=uuid4(), may_commit=lambda: True)
        with transaction():
            record(outcome)


def send_and_die(servers: Servers, email_id: UUID, line: str, marker: Path) -> None:
    """Have another process send the mail and be killed at `line`."""
    environ = servers.environ(DUES_FAILPOINTS=f"{line}=kill:{marker}", SMTP_TIMEOUT_S=str(TIMEOUT_S))
    assert run_forked(send_alone, email_id, environ=environ).returncode == -9


@pytest.mark.parametrize(
    ("line", "left_in", "accepted"),
    [
        ("mail.before_claim", "pending", 0),
        ("mail.after_claim", "sending", 0),
        ("mail.before_committing", "sending", 0),
        ("mail.after_committing", "committing", 0),
        ("mail.before_dot", "committing", 0),
        ("mail.after_dot", "committing", None),
        ("mail.after_reply", "committing", 1),
        ("mail.after_record", "committing", 1),
    ],
)
def test_killed_at_any_line_the_mail_still_goes_out_once(
    office: PostOffice,
    servers: Servers,
    mailbox: Mailbox,
    tmp_path: Path,
    line: str,
    left_in: str,
    accepted: int | None,
):
    email_id = office.queue()
    send_and_die(servers, email_id, line, tmp_path / "marker")
    assert office.state(email_id) == left_in
    assert accepted is None or len(mailbox.mails()) == accepted
    assert office.send_until_known(email_id) == "sent"
    assert [mail["Message-ID"] for mail in mailbox.mails()] == [f"<{email_id}@dues.invalid>"]


def test_an_answer_lost_after_acceptance_is_asked_for_at_once(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue()
    mailbox.behave(next=[{"at": "after_accept", "do": "reset"}])
    assert office.send(email_id).state == "sent"
    assert len(mailbox.mails()) == 1


def test_a_mail_the_provider_does_not_know_is_sent_again_once_it_has_settled(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue()
    mailbox.behave(next=[{"at": "dot", "do": "reset"}])
    with pytest.raises(MailDeferred) as deferred:
        office.send(email_id)
    assert deferred.value.after_s is not None
    assert 0 < deferred.value.after_s <= 2 * TIMEOUT_S
    assert office.state(email_id) == "committing"
    assert office.send_until_known(email_id) == "sent"
    assert len(mailbox.mails()) == 1


def test_a_server_that_hangs_after_the_dot_leaves_the_mail_in_doubt(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue()
    mailbox.behave(next=[{"at": "dot", "do": "hang", "seconds": 10}])
    with pytest.raises(MailDeferred):
        office.send(email_id)
    assert office.send_until_known(email_id) == "sent"
    assert len(mailbox.mails()) == 1


def test_a_server_killed_after_it_accepted(configured: Configured, tmp_path: Path):
    sink = MailSink(tmp_path, faults=True)
    with running(sink):
        mailbox = Mailbox(sink)
        office = configured(smtp_url=sink.smtp_url, mail_lookup_url=sink.lookup_url)
        email_id = office.queue()
        mailbox.behave(next=[{"at": "after_accept", "do": "kill"}])
        with pytest.raises(MailDeferred, match="no answer"):
            office.send(email_id)
        sink.stop()
        sink.start()
        assert office.send_until_known(email_id) == "sent"
        assert len(mailbox.mails()) == 1


def test_a_provider_without_an_answer_is_asked_again(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue()
    mailbox.behave(next=[{"at": "after_accept", "do": "reset"}], lookup=503)
    for _ in range(2):
        with pytest.raises(MailDeferred, match="no answer: status 503"):
            office.send(email_id)
    assert office.state(email_id) == "committing"
    mailbox.behave()
    assert office.send(email_id).state == "sent"
    assert len(mailbox.mails()) == 1


def test_who_cannot_be_asked_leaves_the_mail_held(
    configured: Configured, mailbox: Mailbox, caplog: pytest.LogCaptureFixture
):
    office = configured(mail_lookup_url="")
    email_id = office.queue()
    mailbox.behave(next=[{"at": "after_accept", "do": "reset"}])
    assert office.send(email_id).state == "unknown"
    assert count_unknown() == 1
    assert [record.levelno for record in caplog.records if str(email_id) in record.getMessage()] == [logging.ERROR]
    assert office.send(email_id).state == "unknown"
    assert len(mailbox.mails()) == 1


def test_who_prefers_two_mails_to_none_has_it_sent_again(configured: Configured, mailbox: Mailbox):
    office = configured(mail_lookup_url="", mail_in_doubt="resend")
    email_id = office.queue()
    mailbox.behave(next=[{"at": "after_accept", "do": "reset"}])
    with pytest.raises(MailDeferred):
        office.send(email_id)
    assert office.send_until_known(email_id) == "sent"
    assert [mail["Message-ID"] for mail in mailbox.mails()] == [f"<{email_id}@dues.invalid>"] * 2


def test_only_who_holds_the_lease_decides_about_a_mail_in_doubt(configured: Configured, mailbox: Mailbox):
    office = configured(mail_lookup_url="")
    email_id, holder = office.queue(), uuid4()
    send(email_id, fence=holder, may_commit=lambda: True)
    with pytest.raises(MailDeferred):
        office.send(email_id, may_commit=lambda: False)
    row = office.row(email_id)
    assert (row.state, row.fence) == ("committing", holder)
