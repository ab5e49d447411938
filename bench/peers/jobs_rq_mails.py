"""The confirmation of a payment as a plain RQ job, without a ledger and without a record of the receipt: composed by
the code of Dues, sent with smtplib."""

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
from dues.payments.confirmation import Recipient, Subject, payment_message
from dues.payments.receipt import receipt_pdf
from dues.payments.receipts import describe_payment
from dues.settings import settings
from workers.app import create_worker_app


def confirm(store_id: str, payment_id: str) -> None:
    """Compose the confirmation of a payment, and send it."""
    send(*composed(_app(), store_id, payment_id))


def composed(app: Flask, store_id: str, payment_id: str) -> tuple[str, str, bytes]:
    """Sender, recipient, and the mail as it is sent over SMTP."""
    with app.app_context():
        _, _, receipt = describe_payment(UUID(store_id), UUID(payment_id))
        subject = Subject(about="confirmation", receipt=receipt, payment_id=payment_id, file=receipt_pdf(receipt))
        message = payment_message(subject, Recipient(receipt.payer.name, receipt.payer.email, True), site="bench")
        sender, recipient = parse_mailbox(settings().mail_from), parse_address(receipt.payer.email)
        raw = compose(message, email_id=new_id(), sender=sender, recipient=recipient, date=now())
    return sender.addr_spec, recipient.addr_spec, raw


def send(sender: str, recipient: str, raw: bytes) -> None:
    """Send with a new connection for each mail, as the documentation of smtplib shows."""
    server = urlsplit(os.environ["SMTP_URL"])
    with smtplib.SMTP(server.hostname or "", server.port or 25) as smtp:
        smtp.login(server.username or "", server.password or "")
        smtp.sendmail(sender, [recipient], raw)


@cache
def _app() -> Flask:
    return create_worker_app()
