"""Sending through the ledger: what goes well, what the server refuses, and who may send."""

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest

from dues.errors import ValidationFailed
from dues.jobs.exceptions import PermanentFailure
from dues.mail.ledger import Fenced
from dues.mail.service import Draft, MailDeferred, queue_mail, record, send, send_draft
from dues.postgres import transaction
from local.ports import free_port
from tests.mail.conftest import MESSAGE, PostOffice
from tests.servers import Mailbox


class Abandoned(Exception):
    """Rolls a transaction back."""


def test_a_queued_mail_is_sent_once_and_written_down(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue()
    assert office.state(email_id) == "pending"
    outcome = office.send(email_id)
    row = office.row(email_id)
    assert (outcome.state, outcome.email_id, row.state, row.reply) == ("sent", email_id, "sent", "250 OK: filed")
    assert row.sent_at >= row.dot_at
    [mail] = mailbox.mails()
    assert mail["Message-ID"] == f"<{email_id}@dues.invalid>"
    assert (mail["Delivered-To"], mail["Return-Path"]) == ("ada@example.org", "<no-reply@dues.invalid>")


def test_a_job_that_runs_again_finds_the_mail_sent(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue()
    office.send(email_id)
    again = office.send(email_id)
    assert (again.state, again.reply) == ("sent", "250 OK: filed")
    assert len(mailbox.mails()) == 1


def test_the_same_key_is_the_same_mail(office: PostOffice):
    first = office.queue("payment:7", "ada@example.org")
    assert office.queue("payment:7", "somebody.else@example.org") == first
    assert office.row(first).recipient == "ada@example.org"
    assert office.queue("payment:8") != first


def test_a_mail_is_queued_with_its_transaction_or_not_at_all(office: PostOffice):
    with contextlib.suppress(Abandoned), transaction():
        email_id = queue_mail("payment:1", "ada@example.org", MESSAGE)
        raise Abandoned
    with pytest.raises(PermanentFailure):
        office.send(email_id)
    with pytest.raises(RuntimeError, match="transaction"):
        queue_mail("payment:1", "ada@example.org", MESSAGE)


def test_what_is_no_address_is_refused_before_it_is_queued(office: PostOffice):
    with pytest.raises(ValidationFailed), transaction():
        queue_mail("payment:1", "ada@example.org>\r\nRCPT TO:<eve@example.org", MESSAGE)


@pytest.mark.parametrize("moment", ["mail", "rcpt", "data", "dot"])
def test_a_temporary_refusal_leaves_the_mail_pending(office: PostOffice, mailbox: Mailbox, moment: str):
    email_id = office.queue()
    mailbox.behave(next=[{"at": moment, "do": "451"}])
    with pytest.raises(MailDeferred, match="451"):
        office.send(email_id)
    row = office.row(email_id)
    assert (row.state, row.fence, row.reply) == ("pending", None, "451 as asked")
    assert office.send(email_id).state == "sent"
    assert len(mailbox.mails()) == 1


@pytest.mark.parametrize(
    ("moment", "reply"), [("mail", "552"), ("rcpt", "550"), ("rcpt", "554"), ("data", "550"), ("dot", "550")]
)
def test_a_permanent_refusal_is_final(office: PostOffice, mailbox: Mailbox, moment: str, reply: str):
    email_id = office.queue()
    mailbox.behave(next=[{"at": moment, "do": reply}])
    assert office.send(email_id).state == "rejected"
    assert office.row(email_id).reply == f"{reply} as asked"
    assert office.send(email_id).state == "rejected"
    assert mailbox.mails() == []


@pytest.mark.parametrize(
    ("moment", "reply"),
    [
        *(("mail", reply) for reply in ("501", "503", "530", "535", "550", "553", "554")),
        *((moment, reply) for moment in ("rcpt", "data", "dot") for reply in ("503", "530")),
    ],
)
def test_a_refusal_that_is_about_us_is_none_of_the_mail(office: PostOffice, mailbox: Mailbox, moment: str, reply: str):
    """Wrong log-in, a sender that is not allowed, a conversation that got out of step: mended, the mail goes out."""
    email_id = office.queue()
    mailbox.behave(next=[{"at": moment, "do": reply}])
    with pytest.raises(MailDeferred, match=reply):
        office.send(email_id)
    assert office.state(email_id) == "pending"
    assert office.send(email_id).state == "sent"
    assert len(mailbox.mails()) == 1


@pytest.mark.parametrize("moment", ["mail", "rcpt", "data"])
@pytest.mark.parametrize("fault", ["hang", "reset"])
def test_a_server_lost_before_the_dot_leaves_the_mail_pending(
    office: PostOffice, mailbox: Mailbox, moment: str, fault: str
):
    email_id = office.queue()
    mailbox.behave(next=[{"at": moment, "do": fault, "seconds": 5}])
    with pytest.raises(MailDeferred):
        office.send(email_id)
    assert office.state(email_id) == "pending"
    assert office.send(email_id).state == "sent"
    assert len(mailbox.mails()) == 1


def test_no_server_leaves_the_mail_pending(configured: Callable[..., PostOffice]):
    office = configured(smtp_url=f"smtp://127.0.0.1:{free_port()}")
    email_id = office.queue()
    with pytest.raises(MailDeferred, match="ConnectionRefusedError"):
        office.send(email_id)
    assert office.state(email_id) == "pending"


def test_a_worker_that_may_not_go_on_sends_no_dot(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue()
    with pytest.raises(MailDeferred):
        office.send(email_id, may_commit=lambda: False)
    assert office.state(email_id) == "pending"
    assert mailbox.mails() == []
    assert office.send(email_id).state == "sent"
    assert len(mailbox.mails()) == 1


def test_a_worker_that_stood_still_before_the_dot_does_not_send_it(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue()

    def another_worker_takes_the_mail() -> bool:
        with pytest.raises(MailDeferred, match="not known yet"):
            office.send(email_id)
        return False

    with pytest.raises(Fenced):
        office.send(email_id, may_commit=another_worker_takes_the_mail)
    assert office.state(email_id) == "committing"
    assert office.send_until_known(email_id) == "sent"
    assert len(mailbox.mails()) == 1


def test_a_claim_by_another_worker_fences_the_one_before(office: PostOffice, mailbox: Mailbox):
    email_id, slow, quick = office.queue(), uuid4(), uuid4()
    outcome = send(email_id, fence=slow, may_commit=lambda: True)
    assert office.row(email_id).fence == slow
    assert office.send(email_id, quick).state == "sent"
    with pytest.raises(Fenced), transaction():
        record(outcome)
    assert office.row(email_id).fence == quick
    assert len(mailbox.mails()) == 1


def test_an_outcome_is_recorded_with_the_caller_s_transaction_or_not_at_all(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue()
    outcome = send(email_id, fence=uuid4(), may_commit=lambda: True)
    with contextlib.suppress(Abandoned), transaction():
        record(outcome)
        raise Abandoned
    assert office.state(email_id) == "committing"
    with transaction():
        record(outcome)
    assert office.state(email_id) == "sent"


def test_a_draft_is_written_down_and_sent_at_once(office: PostOffice, mailbox: Mailbox):
    draft = Draft("payment:1", "ada@example.org", MESSAGE)
    outcome = send_draft(draft, fence=uuid4(), may_commit=lambda: True)
    assert office.state(outcome.email_id) == "committing"
    with transaction():
        record(outcome)
    again = send_draft(draft, fence=uuid4(), may_commit=lambda: True)
    assert (again.email_id, again.state) == (outcome.email_id, "sent")
    assert len(mailbox.mails()) == 1


def test_a_draft_of_a_known_mail_is_sent_as_it_was_written_down(office: PostOffice, mailbox: Mailbox):
    email_id = office.queue("payment:1")
    draft = Draft("payment:1", "eve@example.org", replace(MESSAGE, subject="Another"))
    outcome = send_draft(draft, fence=uuid4(), may_commit=lambda: True)
    assert outcome.email_id == email_id
    [mail] = mailbox.mails()
    assert (mail["Subject"], mail["Delivered-To"]) == ("Your payment", "ada@example.org")


def test_a_draft_in_doubt_is_asked_about(office: PostOffice, mailbox: Mailbox):
    draft = Draft("payment:1", "ada@example.org", MESSAGE)
    send_draft(draft, fence=uuid4(), may_commit=lambda: True)
    assert send_draft(draft, fence=uuid4(), may_commit=lambda: True).reply == "accepted, the provider says"
    assert len(mailbox.mails()) == 1


def test_a_draft_to_nobody_fails_for_good(office: PostOffice):
    with pytest.raises(PermanentFailure, match="must be a mail address"):
        send_draft(Draft("payment:1", "nobody", MESSAGE), fence=uuid4(), may_commit=lambda: True)


def test_each_change_of_state_is_logged(office: PostOffice, mailbox: Mailbox, caplog: pytest.LogCaptureFixture):
    email_id = office.queue()
    with caplog.at_level(logging.INFO, "dues.mail.ledger"):
        office.send(email_id)
    states = [record.getMessage().split()[3] for record in caplog.records]
    assert states == ["sending", "committing", "sent"]
    assert "ada@example.org" not in caplog.text
