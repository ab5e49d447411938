"""The confirmation of a payment as a plain RQ job, with no ledger: written by the code of Dues, sent with smtplib."""

import os
import smtplib
from functools import cache
from urllib.parse import urlsplit
from uuid import UUID

from flask import Flask

from dues.clock import now
from dues.ids import new_id
from dues.mail.address import parse_address, parse_mailbox
from dues.mail.message import compose
from dues.payments import notices
from dues.settings import settings
from workers.app import create_worker_app


def confirm(store_id: str, payment_id: str) -> None:
    """Write the confirmation of a payment and send it."""
    send(*written(_app(), store_id, payment_id))


def written(app: Flask, store_id: str, payment_id: str) -> tuple[str, str, bytes]:
    """Sender, recipient and the mail as it goes over the wire."""
    with app.app_context():
        draft = notices.confirmation(UUID(store_id), UUID(payment_id))
        sender, recipient = parse_mailbox(settings().mail_from), parse_address(draft.recipient)
        raw = compose(draft.message, email_id=new_id(), sender=sender, recipient=recipient, date=now())
    return sender.addr_spec, recipient.addr_spec, raw


def send(sender: str, recipient: str, raw: bytes) -> None:
    """A connection for each mail, as the documentation of smtplib shows it."""
    server = urlsplit(os.environ["SMTP_URL"])
    with smtplib.SMTP(server.hostname or "", server.port or 25) as smtp:
        smtp.sendmail(sender, [recipient], raw)


@cache
def _app() -> Flask:
    return create_worker_app()
