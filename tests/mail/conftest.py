"""A post office for tests: queue a mail, send it as a job does, and see how far the ledger has come."""

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace as Row
from typing import Any
from uuid import UUID, uuid4

import pytest

from dues.app import create_base
from dues.mail import smtp
from dues.mail.message import Message
from dues.mail.service import MailDeferred, Outcome, queue_mail, record, send
from dues.postgres import db, fetch_row, transaction
from tests.servers import Servers, wait_until

MESSAGE = Message(subject="Your payment", text="Thank you.\n", html="<p>Thank you.</p>", to_name="Ada")
# The settling time of a mail in doubt is twice this.
TIMEOUT_S = 0.4


class PostOffice:
    """Acts as the job that sends a mail would."""

    def queue(self, key: str = "payment:1", recipient: str = "ada@example.org", message: Message = MESSAGE) -> UUID:
        with transaction():
            return queue_mail(key, recipient, message)

    def send(self, email_id: UUID, fence: UUID | None = None, may_commit: Callable[[], bool] = lambda: True) -> Outcome:
        """One attempt, with what became of it recorded."""
        outcome = send(email_id, fence=fence or uuid4(), may_commit=may_commit)
        with transaction():
            record(outcome)
        return outcome

    def send_until_known(self, email_id: UUID) -> str:
        """As many attempts as it takes, each with a lease of its own. Returns: the mail's last state."""

        def known() -> bool:
            with contextlib.suppress(MailDeferred):
                self.send(email_id)
                return True
            return False

        wait_until(known, what="a decision about the mail")
        return self.state(email_id)

    def row(self, email_id: UUID) -> Row:
        row = fetch_row(
            "select state, fence, reply, dot_at, sent_at, recipient, raw from email_sends where id = %(id)s",
            {"id": email_id},
        )
        assert row is not None
        state, fence, reply, dot_at, sent_at, recipient, raw = row
        return Row(
            state=state,
            fence=fence,
            reply=reply,
            dot_at=dot_at,
            sent_at=sent_at,
            recipient=recipient,
            raw=bytes(raw),
        )

    def state(self, email_id: UUID) -> str:
        return str(self.row(email_id).state)


@pytest.fixture
def configured(servers: Servers, clean: None) -> Iterator[Callable[..., PostOffice]]:
    """`configured(mail_lookup_url="")` is a post office with these settings; short time-outs unless told."""
    with contextlib.ExitStack() as stack:
        stack.callback(smtp.disconnect)

        def configure(**changes: Any) -> PostOffice:
            app = create_base(servers.settings(**{"smtp_timeout_s": TIMEOUT_S} | changes))
            stack.enter_context(app.app_context())
            stack.callback(db.engine.dispose)
            return PostOffice()

        yield configure


@pytest.fixture
def office(configured: Callable[..., PostOffice]) -> PostOffice:
    """A post office whose provider can be asked."""
    return configured()
