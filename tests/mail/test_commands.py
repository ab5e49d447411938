"""The operator's commands for mails that are held."""

from collections.abc import Callable
from uuid import UUID

import pytest
from flask import current_app

from dues.ids import new_id
from dues.postgres import fetch_row
from tests.mail.conftest import PostOffice
from tests.servers import Mailbox


@pytest.fixture
def office(configured: Callable[..., PostOffice]) -> PostOffice:
    return configured(mail_lookup_url="")


@pytest.fixture
def held(office: PostOffice, mailbox: Mailbox) -> UUID:
    """A mail whose answer was lost."""
    email_id = office.queue()
    mailbox.behave(next=[{"at": "after_accept", "do": "reset"}])
    assert office.send(email_id).state == "unknown"
    return email_id


def flask(*arguments: str) -> tuple[int, str]:
    result = current_app.test_cli_runner().invoke(args=["mail", *arguments])
    return result.exit_code, result.output


def test_held_mails_are_listed(office: PostOffice, held: UUID):
    office.send(office.queue("payment:2"))
    code, output = flask("held")
    [line] = output.splitlines()
    assert code == 0
    assert line.startswith(str(held))
    assert line.endswith("ada@example.org")


def test_the_statistics_of_jobs_tell_of_them(office: PostOffice, mailbox: Mailbox, request: pytest.FixtureRequest):
    def shown() -> str:
        return str(current_app.test_cli_runner().invoke(args=["jobs", "stats"]).output)

    assert "mails held" not in shown()
    request.getfixturevalue("held")
    assert shown().splitlines()[-1].endswith("accepted: 1 (flask mail held)")


def test_a_held_mail_was_sent_after_all(office: PostOffice, held: UUID):
    assert flask("sent", str(held)) == (0, "")
    assert office.state(held) == "sent"
    assert flask("held") == (0, "")


def test_a_held_mail_is_sent_again_by_a_job(office: PostOffice, held: UUID, mailbox: Mailbox):
    assert flask("resend", str(held)) == (0, "")
    assert office.state(held) == "pending"
    assert fetch_row("select kind, args->>'email_id' from jobs", {}) == ("mailing.send", str(held))
    assert office.send(held).state == "sent"


@pytest.mark.parametrize("command", ["sent", "resend"])
def test_only_a_held_mail_can_be_decided_about(office: PostOffice, command: str):
    pending = office.queue()
    for email_id in (pending, new_id()):
        code, output = flask(command, str(email_id))
        assert (code, output.strip()) == (1, "Error: no such mail is held")
    assert office.state(pending) == "pending"
    assert fetch_row("select count(*) from jobs", {}) == (0,)
