"""SMTP itself: encryption, logins, extensions, and a connection that serves more than one mail."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dues.mail import smtp
from local.ports import free_port

_CERTIFICATE = Path(__file__).parent / "localhost.pem"
_RAW = b"Subject: x\r\n\r\nbody\r\n"


class Sink:
    """Keeps what it accepts; aiosmtpd calls its methods by their names."""

    def __init__(self, *extensions: str) -> None:
        self.extensions = extensions
        self.mails: list[bytes] = []
        self.envelopes: list[tuple[str | None, list[str], list[str]]] = []
        self.sessions: set[int] = set()
        self.refuse = ""

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        return [*responses[:-1], *(f"250-{name}" for name in self.extensions), responses[-1]]

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.refuse:
            return self.refuse
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        assert isinstance(envelope.content, bytes)
        self.mails.append(envelope.content)
        self.envelopes.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.mail_options))
        self.sessions.add(id(session))
        return "250 kept"


def authenticate(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    return AuthResult(success=data == LoginPassword(b"dues@example.org", b"p@ss:word"), handled=False)


@contextmanager
def serving(sink: Sink, *, smtps: bool = False, **options: Any) -> Iterator[int]:
    """Serve SMTP for `sink`; yields the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(_CERTIFICATE)
    if options.pop("starttls", False):
        options |= {"tls_context": context, "require_starttls": True}
    controller = Controller(
        sink, "127.0.0.1", free_port(), ssl_context=context if smtps else None, enable_SMTPUTF8=True, **options
    )
    controller.start()
    try:
        yield controller.port
    finally:
        smtp.disconnect()
        controller.stop()


def deliver(url: str, raw: bytes = _RAW, recipient: str = "ada@example.org") -> str:
    server = smtp.parse_smtp_url(url, client_name="dues.example", timeout_s=2)
    return smtp.deliver(server, smtp.Envelope("no-reply@dues.example", recipient, raw), lambda: None)


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "SSL_CERT_FILE", str(_CERTIFICATE))


def test_mails_share_a_connection():
    sink = Sink()
    with serving(sink) as port:
        for _ in range(3):
            assert deliver(f"smtp://127.0.0.1:{port}") == "250 kept"
        assert (len(sink.mails), len(sink.sessions)) == (3, 1)


def test_a_connection_the_server_closed_is_replaced():
    sink, port = Sink(), free_port()
    for _ in range(2):
        controller = Controller(sink, "127.0.0.1", port)
        controller.start()
        deliver(f"smtp://127.0.0.1:{port}")
        controller.stop()
    smtp.disconnect()
    assert len(sink.mails) == 2


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)])
def test_a_refused_recipient_gets_no_mail_and_does_not_spoil_the_next(extensions: tuple[str, ...]):
    sink = Sink(*extensions)
    with serving(sink) as port:
        sink.refuse = "550 no such mailbox"
        with pytest.raises(smtp.Refused, match="550 no such mailbox"):
            deliver(f"smtp://127.0.0.1:{port}")
        sink.refuse = ""
        deliver(f"smtp://127.0.0.1:{port}")
        assert sink.mails == [_RAW]


@pytest.mark.parametrize("extensions", [(), ("PIPELINING",)])
def test_the_envelope(extensions: tuple[str, ...]):
    sink = Sink(*extensions)
    with serving(sink) as port:
        deliver(f"smtp://127.0.0.1:{port}")
        assert sink.envelopes == [("no-reply@dues.example", ["ada@example.org"], [f"SIZE={len(_RAW)}"])]


def test_an_address_that_is_not_ascii_needs_a_server_that_takes_it():
    sink = Sink()
    with serving(sink) as port:
        deliver(f"smtp://127.0.0.1:{port}", "To: jürgen@example.org\r\n\r\n".encode(), "jürgen@example.org")
        [(_, recipients, options)] = sink.envelopes
        assert recipients == ["jürgen@example.org"]
        assert {"SMTPUTF8", "BODY=8BITMIME"} <= set(options)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(st.text(".a\t", max_size=4), max_size=6))
def test_dots_arrive_as_they_were_sent(plain: tuple[Sink, str], lines: list[str]):
    sink, url = plain
    raw = _RAW + "".join(f"{line}\r\n" for line in lines).encode()
    deliver(url, raw)
    assert sink.mails[-1] == raw


@pytest.fixture
def plain() -> Iterator[tuple[Sink, str]]:
    sink = Sink()
    with serving(sink) as port:
        yield sink, f"smtp://127.0.0.1:{port}"


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_encrypted_and_logged_in(scheme: str):
    sink = Sink()
    options: dict[str, Any] = {"smtps": True, "auth_require_tls": False} if scheme == "smtps" else {"starttls": True}
    with serving(sink, authenticator=authenticate, **options) as port:
        deliver(f"{scheme}://dues%40example.org:p%40ss%3Aword@localhost:{port}")
        assert sink.mails == [_RAW]
        smtp.disconnect()
        with pytest.raises(smtp.NotTaken, match="535"):
            deliver(f"{scheme}://dues%40example.org:wrong@localhost:{port}")


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
def test_a_certificate_nobody_vouches_for_is_not_trusted(scheme: str):
    sink = Sink()
    with (
        serving(sink, **({"smtps": True} if scheme == "smtps" else {"starttls": True})) as port,
        pytest.raises(smtp.NotTaken, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        deliver(f"{scheme}://localhost:{port}")


def test_a_server_without_encryption_is_told_nothing():
    sink = Sink()
    with serving(sink) as port, pytest.raises(smtp.NotTaken, match="STARTTLS"):
        deliver(f"smtp+starttls://dues:secret@localhost:{port}")
    assert sink.mails == []


@pytest.mark.parametrize("url", ["http://u:secret@mail", "smtp://", "mail.example.org", "smtp://mail:port"])
def test_a_wrong_url_is_refused_without_showing_its_secret(url: str):
    with pytest.raises(ValueError, match="no such URL") as refused:
        smtp.parse_smtp_url(url, client_name="x", timeout_s=1)
    assert "secret" not in str(refused.value)


def test_a_server_does_not_show_its_password():
    server = smtp.parse_smtp_url("smtps://ada:secret@mail.example.org", client_name="x", timeout_s=1)
    assert (server.port, server.password) == (465, "secret")
    assert "secret" not in repr(server)
