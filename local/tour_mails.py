"""Mails for the tour, from the folder of `bin/run`'s mail server."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

from local.tour_client import quote, require


def mails_to(email: str, folder: Path) -> list[EmailMessage]:
    """The mails that arrived for an address, oldest first."""
    return [mail for mail in map(_read, sorted(folder.glob("*.eml"))) if mail["Delivered-To"] == email]


def show_text(mail: EmailMessage) -> None:
    text = mail.get_body(("plain",))
    require(text is not None, "the mail has no text")
    for line in text.get_content().splitlines() if text else []:
        quote(line)


def _read(file: Path) -> EmailMessage:
    return message_from_bytes(file.read_bytes(), policy=policy.default)
