"""The bytes of a mail, read back by the standard library's parser."""

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError

from dues.errors import ValidationFailed
from dues.ids import new_id
from dues.mail.address import clean, parse_address, parse_mailbox
from dues.mail.message import Attachment, Message, Templates, compose, message_id

pytestmark = pytest.mark.unit

SENDER = parse_mailbox("Dues <no-reply@dues.example>")
DATE = datetime(2026, 11, 20, 14, 39, tzinfo=UTC)

# Hostile on purpose: line ends of every kind, header syntax, encoded words, lone surrogates, controls.
texts = st.text(st.one_of(st.sampled_from('\r\n\0\u2028\ud800=?<>",.:@ \x7f'), st.characters()), max_size=120)


def composed(message: Message, recipient: str = "ada@example.org") -> bytes:
    return compose(message, email_id=new_id(), sender=SENDER, recipient=parse_address(recipient), date=DATE)


def read(raw: bytes) -> EmailMessage:
    return message_from_bytes(raw, policy=policy.default)


def header(raw: bytes, name: str) -> str:
    """As mail programs read it. (The newer parser of Python 3.11 puts spaces into long encoded names.)"""
    return str(make_header(decode_header(message_from_bytes(raw, policy=policy.compat32).get(name, ""))))


def lines(text: str) -> list[str]:
    return re.split(r"\r\n|\r|\n", re.sub(r"(\r\n|\r|\n)\Z", "", text))


@given(subject=texts, name=texts)
def test_no_text_gets_out_of_its_header(subject: str, name: str):
    raw = composed(Message(subject=subject, text="text", html="<p>html</p>", to_name=name))
    mail = read(raw)
    assert header(raw, "Subject") == clean(subject)
    quoted = header(raw, "To").removesuffix("ada@example.org").removesuffix("<ada@example.org>").strip()
    assert quoted in (clean(name), '"' + clean(name).replace("\\", "\\\\").replace('"', '\\"') + '"')
    assert [address.addr_spec for address in mail["To"].addresses] == ["ada@example.org"]
    names = {"From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"}
    assert set(mail.keys()) | {"Subject"} == names


@given(text=texts, html=texts)
def test_bodies_survive_and_suit_every_server(text: str, html: str):
    text, html = (body.encode("utf-8", "replace").decode() for body in (text, html))
    raw = composed(Message(subject="Subject", text=text, html=html))
    assert raw.isascii()
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n|\0", raw)
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    mail = read(raw)
    for kind, body in (("plain", text), ("html", html)):
        part = mail.get_body((kind,))
        assert part is not None
        assert lines(part.get_content()) == lines(body)


def test_an_attachment_arrives_as_it_was():
    content = bytes(range(256)) * 40
    raw = composed(
        Message(
            subject="Receipt",
            text="text",
            html="html",
            attachments=(Attachment("Beleg für Ada.pdf", content, "application/pdf"),),
        )
    )
    [part] = read(raw).iter_attachments()
    assert part.get_content() == content
    assert (part.get_filename(), part.get_content_type()) == ("Beleg für Ada.pdf", "application/pdf")


def test_the_message_id_is_the_row_s_id():
    email_id = new_id()
    message = Message(subject="\nMessage-ID: <another@dues.example>", text="text", html="html")
    raw = compose(message, email_id=email_id, sender=SENDER, recipient=parse_address("ada@example.org"), date=DATE)
    assert read(raw).get_all("Message-ID") == [f"<{email_id}@dues.example>"]
    assert message_id(raw) == f"{email_id}@dues.example"
    assert read(raw)["Date"].datetime == DATE


@pytest.mark.parametrize("name", ['Müller, Jürgen "Jo" <eve@example.org>', 'Jo "the \\ Rock", Ltd; (x)', "山田 太郎"])
def test_a_name_may_hold_anything(name: str):
    [address] = read(composed(Message(subject="s", text="t", html="h", to_name=name)))["To"].addresses
    assert (address.display_name, address.addr_spec) == (name, "ada@example.org")


def test_only_a_mail_that_is_not_transactional_can_be_unsubscribed_from():
    transactional = read(composed(Message(subject="s", text="t", html="h")))
    assert "List-Unsubscribe" not in transactional
    url = "https://dues.example/u?t=1>\r\nBcc: eve@example.org"
    mail = read(composed(Message(subject="s", text="t", html="h", unsubscribe_url=url)))
    assert mail["List-Unsubscribe"] == "<https://dues.example/u?t=1%3E%0D%0ABcc:%20eve@example.org>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert "Bcc" not in mail


def test_answers_go_where_the_message_says():
    raw = composed(Message(subject="s", text="t", html="h", reply_to="Kestrel Club <club@example.org>"))
    [address] = read(raw)["Reply-To"].addresses
    assert (address.display_name, address.addr_spec) == ("Kestrel Club", "club@example.org")


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("ada@example.org", "ada@example.org"),
        ("Ada+dues@EXAMPLE.org", "Ada+dues@example.org"),
        ("ada@bücher.example", "ada@xn--bcher-kva.example"),
        ("ada@straße.de", "ada@xn--strae-oqa.de"),
        ("jürgen@example.org", "jürgen@example.org"),
    ],
)
def test_a_domain_is_written_in_ascii(written: str, sent: str):
    assert parse_address(written).addr_spec == sent
    raw = composed(Message(subject="s", text="t", html="h"), written)
    assert raw.isascii() == sent.isascii()
    assert f"To: {sent}\r\n".encode() in raw


@pytest.mark.parametrize(
    "text",
    [
        *("", "ada", "@example.org", "ada@", "ada@example", "a b@example.org", "ada@exa mple.org", "ada@-x.org"),
        *("ada@example.org\n", "ada@example.org>", "<ada@example.org>", "ada\r\n@example.org", "ada@example..org"),
        *("ada\0@example.org", "ada..b@example.org", ".ada@example.org", '"a b"@example.org', "a@b@example.org"),
        *("a" * 65 + "@example.org", "ada@" + "a" * 64 + ".org", "\ud800@example.org", "ada@\ud800.org"),
        "ada@" + "a234567890." * 25 + "org",
    ],
)
def test_what_cannot_be_sent_to_is_no_address(text: str):
    with pytest.raises(ValidationFailed):
        parse_address(text)


@given(texts)
def test_every_text_is_an_address_or_refused(text: str):
    for candidate in (f"{text}@example.org", f"ada@{text}.org"):
        try:
            address = parse_address(candidate).addr_spec
        except ValidationFailed:
            continue
        assert not re.search(r'[\s<>"\0]', address)
        assert address.count("@") == 1


def test_html_is_escaped_and_text_is_not(tmp_path: Path):
    for kind in ("txt", "html"):
        (tmp_path / f"hello.{kind}").write_text("Hello {{ name }}")
    message = Templates(tmp_path).message("hello", subject="Hello", name="<b>Ada</b>")
    assert (message.text, message.html) == ("Hello <b>Ada</b>", "Hello &lt;b&gt;Ada&lt;/b&gt;")
    with pytest.raises(UndefinedError):
        Templates(tmp_path).message("hello", subject="Hello")
