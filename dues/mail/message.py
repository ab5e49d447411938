"""Composing a mail: text and HTML from templates, attachments, and the frozen bytes that go over the wire."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email import policy
from email.charset import QP, Charset
from email.encoders import encode_base64
from email.header import Header
from email.headerregistry import Address
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.utils import format_datetime
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from dues.mail.address import clean, parse_mailbox

_POLICY = policy.compat32.clone(linesep="\r\n")
# Bodies go out as ASCII in short lines, so that no server on the way has a reason to change the bytes.
_charset = Charset("utf-8")
_charset.body_encoding = QP
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to go along; `content_type` is e.g. `application/pdf`."""

    filename: str
    content: bytes
    content_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """The content of a mail, without its recipient. `from_name` is shown as its sender, before the operator's address,
    instead of the operator's own name.

    Without `unsubscribe_url` it is transactional: the answer to something its recipient did. Anything else needs
    one, an https URL that unsubscribes on POST (RFC 8058).
    """

    subject: str
    text: str
    html: str
    to_name: str = ""
    from_name: str = ""
    reply_to: str = ""
    attachments: tuple[Attachment, ...] = ()
    unsubscribe_url: str = ""


class Templates:
    """Mail templates of one folder, on top of the layout that all mails share (dues/mail/templates). What people wrote
    is given to them as `Words`, money as `Amount` (wording.py)."""

    def __init__(self, folder: Path) -> None:
        self._environment = Environment(
            loader=FileSystemLoader([folder, Path(__file__).parent / "templates"]),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def message(
        self,
        template: str,
        /,
        *,
        subject: str,
        to_name: str = "",
        from_name: str = "",
        reply_to: str = "",
        attachments: tuple[Attachment, ...] = (),
        unsubscribe_url: str = "",
        **values: object,
    ) -> Message:
        """The message that `<template>.txt` and `<template>.html` make of `values`.

        Raises: jinja2.UndefinedError where a template asks for a value that is not given.
        """
        text, html = (
            self._environment.get_template(f"{template}.{kind}").render(subject=subject, **values)
            for kind in ("txt", "html")
        )
        return Message(
            subject=subject,
            text=text,
            html=html,
            to_name=to_name,
            from_name=from_name,
            reply_to=reply_to,
            attachments=attachments,
            unsubscribe_url=unsubscribe_url,
        )


_shared = Templates(Path(__file__).parent / "templates")


def unverified_message(
    title: str, sentence: str, facts: Sequence[tuple[str, object, bool]], *, site: str, left_out: str, then: str = ""
) -> Message:
    """A mail to an address that nobody has shown to be theirs: it holds nobody's words, so that nobody can use Dues to
    send words of their own to others. `left_out` is what others are told, with its verb; `then` what can be done once
    the address is verified."""
    return _shared.message(
        "unverified",
        subject=title.replace("\N{NO-BREAK SPACE}", " "),
        title=title,
        sentence=sentence,
        facts=facts,
        site=site,
        left_out=left_out,
        then=then,
    )


def message_id(raw: bytes) -> str:
    """The Message-ID of a composed mail, without its angle brackets."""
    _, _, rest = raw.partition(b"\r\nMessage-ID: <")
    return rest.partition(b">")[0].decode()


def compose(message: Message, *, email_id: UUID, sender: Address, recipient: Address, date: datetime) -> bytes:
    """The mail as it goes over the wire (RFC 5322, CRLF), dots not yet stuffed.

    All ASCII, but for the address headers of a mail to a local part that is not: that one needs SMTPUTF8.
    """
    from_name = clean(message.from_name) or sender.display_name
    headers = {
        "From": _mailbox("From", Address(from_name, sender.username, sender.domain)),
        "To": _mailbox("To", Address(clean(message.to_name), recipient.username, recipient.domain)),
        "Reply-To": _mailbox("Reply-To", parse_mailbox(message.reply_to)) if message.reply_to else "",
        "Subject": _unstructured("Subject", clean(message.subject)),
        "Date": format_datetime(date),
        "Message-ID": f"<{email_id}@{sender.domain}>",
        # Keeps out-of-office answers away (RFC 3834).
        "Auto-Submitted": "auto-generated",
    }
    if message.unsubscribe_url:
        headers["List-Unsubscribe"] = f"<{_url(message.unsubscribe_url)}>"
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if value)
    return head.encode() + _content(message, email_id).as_bytes()


# The library's older classes: the newer parse each header they write, which takes ten times as long.
def _content(message: Message, email_id: UUID) -> MIMEMultipart:
    content = MIMEMultipart("alternative", _boundary("alternative", email_id), policy=_POLICY)
    for subtype, body in (("plain", message.text), ("html", message.html)):
        part = MIMENonMultipart("text", subtype, policy=_POLICY)
        part.set_payload("\n".join(_LINE_END.split(body)), _charset)
        content.attach(part)
    if not message.attachments:
        return content
    mixed = MIMEMultipart("mixed", _boundary("mixed", email_id), [content], policy=_POLICY)
    for file in message.attachments:
        maintype, _, subtype = file.content_type.partition("/")
        part = MIMENonMultipart(maintype, subtype, policy=_POLICY)
        part.set_payload(file.content)
        encode_base64(part)
        name = clean(file.filename)
        part.add_header("Content-Disposition", "attachment", filename=name if name.isascii() else ("utf-8", "", name))
        mixed.attach(part)
    return mixed


def _boundary(kind: str, email_id: UUID) -> str:
    # No line of an encoded body can hold "=_".
    return f"=_{kind}_{email_id.hex}"


# The headers that hold people's words are written here, because the library's folding (3.11) changes some: it
# decodes a subject that looks encoded, and puts spaces into long ones.
def _unstructured(name: str, text: str) -> str:
    return text if _plain(name, text) else _encoded(name, text)


def _mailbox(name: str, address: Address) -> str:
    display_name = address.display_name
    if not display_name:
        return address.addr_spec
    if not _plain(name, display_name):
        return f"{_encoded(name, display_name)}\r\n <{address.addr_spec}>"
    quoted = display_name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}" <{address.addr_spec}>'


def _plain(name: str, text: str) -> bool:
    return text.isascii() and "=?" not in text and len(name) + len(text) < 70


def _encoded(name: str, text: str) -> str:
    return Header(text, "utf-8", header_name=name).encode(linesep="\r\n")


def _url(text: str) -> str:
    return quote(text, safe="!#$%&'()*+,/:;=?@[]~")
