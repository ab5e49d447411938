"""Sends a mail to the mail server (RFC 5321), and marks the moment from which on the server may have accepted it.

A mail is accepted, if at all, when the server has read the line with the final dot. `deliver()` sends everything
before that line, calls `before_dot`, and only then sends it; so every failure is either certainly harmless
(`NotTaken`, `Refused`) or, from the dot on, in doubt (`InDoubt`).

A connection is kept for the next mail of the same thread: most of the cost of a mail is getting a connection ready.
"""

import os
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

from dues.failpoints import failpoint
from urls import split_url

_PORTS = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}

# Servers may close connections that are idle or have carried many mails: open a new one before that happens.
_MAX_IDLE_S = 30.0
_MAX_MAILS = 100

# 5xx answers that say nothing about the mail, but that we are not logged in as we should be (530 and on) or that client
# and server disagree about where they are (503). The mail can go once that is mended.
_NOT_ABOUT_THE_MAIL = {503, 530, 534, 535, 538}
# The one 5xx answer to MAIL that is about the mail: it is too large. All others are about the sender, which is us.
_TOO_LARGE = 552


class NotTaken(Exception):
    """The server certainly did not accept the mail, and may do so later."""


class ConnectionLost(NotTaken):
    """The same, because the connection is of no more use."""


class Refused(Exception):
    """The server will not accept the mail, now or later; holds its reply."""


class InDoubt(Exception):
    """The final dot may have reached the server, and its answer did not reach us."""


@dataclass(frozen=True, slots=True)
class Server:
    """A mail server, as SMTP_URL names it. `timeout_s` bounds the wait for each of its answers."""

    scheme: str
    host: str
    port: int
    username: str
    password: str = field(repr=False)
    client_name: str
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Envelope:
    """Who sends what to whom, in the server's eyes; `raw` has CRLF line ends."""

    sender: str
    recipient: str
    raw: bytes

    @property
    def needs_utf8(self) -> bool:
        return not (self.sender.isascii() and self.recipient.isascii() and self.raw.isascii())


@lru_cache
def parse_smtp_url(url: str, *, client_name: str, timeout_s: float) -> Server:
    """Raises: ValueError (which does not hold the URL, because that holds a password)."""
    parts = split_url(url, list(_PORTS))
    return Server(
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or _PORTS[parts.scheme],
        username=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        client_name=client_name,
        timeout_s=timeout_s,
    )


def deliver(server: Server, envelope: Envelope, before_dot: Callable[[], None]) -> str:
    """Send one mail; the server's reply to the accepted mail.

    `before_dot` is called when all but the final dot is sent; what it raises aborts the mail, which then is
    certainly not accepted, and is passed on.
    Raises: NotTaken, Refused, InDoubt.
    """
    connection = _kept(server)
    fresh = connection is None
    if connection is None:
        connection = Connection(server)
    try:
        try:
            connection.announce(envelope)
        except ConnectionLost:
            if fresh:
                raise
            # The server may have closed a connection that lay idle; that says nothing about this mail.
            connection.close()
            connection = Connection(server)
            connection.announce(envelope)
        reply = connection.transmit(envelope.raw, before_dot)
    except BaseException:
        connection.close()
        raise
    _keep(connection)
    return reply


class Connection:
    """One connection to a mail server, greeted, encrypted and logged in.

    Raises: ConnectionLost when that does not succeed, for whatever reason.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.pid = os.getpid()
        self.mails = 0
        self.used_at = time.monotonic()
        try:
            self._smtp = _connect(server)
        except (OSError, smtplib.SMTPException) as error:
            raise ConnectionLost(_explain(error)) from error
        try:
            self._prepare()
        except (OSError, smtplib.SMTPException) as error:
            self._smtp.close()
            raise ConnectionLost(_explain(error)) from error

    def _prepare(self) -> None:
        if self.server.scheme == "smtp+starttls":
            self._smtp.ehlo_or_helo_if_needed()
            self._smtp.starttls(context=ssl.create_default_context())
        self._smtp.ehlo_or_helo_if_needed()
        if self.server.username:
            self._smtp.login(self.server.username, self.server.password)
        sock = self._smtp.sock
        assert sock is not None
        # The dot follows the body at once: Nagle's algorithm would hold it back until the body is acknowledged.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # The kernel must not deliver the final dot long after this process has ended.
            limit_ms = int(self.server.timeout_s * 1000)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, limit_ms)

    def announce(self, envelope: Envelope) -> None:
        """MAIL, RCPT and DATA, up to where the server waits for the mail itself. Raises: NotTaken, Refused."""
        options = f" SIZE={len(envelope.raw)}" if self._smtp.has_extn("size") else ""
        if envelope.needs_utf8:
            if not self._smtp.has_extn("smtputf8"):
                raise Refused("the mail server does not take addresses that are not ASCII (SMTPUTF8)")
            options += " SMTPUTF8 BODY=8BITMIME"
        commands = [f"MAIL FROM:<{envelope.sender}>{options}", f"RCPT TO:<{envelope.recipient}>", "DATA"]
        try:
            # Several commands in one packet spare a mail two round trips (RFC 2920).
            for group in [commands] if self._smtp.has_extn("pipelining") else [[command] for command in commands]:
                self._smtp.send("".join(command + "\r\n" for command in group).encode())
                for command in group:
                    self._expect_reply_to(command, *self._smtp.getreply())
        except (OSError, smtplib.SMTPException) as error:
            raise ConnectionLost(_explain(error)) from error

    def transmit(self, raw: bytes, before_dot: Callable[[], None]) -> str:
        """The mail itself; the server's reply. Raises: NotTaken, Refused, InDoubt, and what `before_dot` raises."""
        try:
            self._smtp.send(_stuff_dots(raw))
        except (OSError, smtplib.SMTPException) as error:
            raise ConnectionLost(_explain(error)) from error
        before_dot()
        try:
            self._smtp.send(b".\r\n")
            failpoint("mail.after_dot")
            code, text = self._smtp.getreply()
        except (OSError, smtplib.SMTPException) as error:
            raise InDoubt(_explain(error)) from error
        if not 200 <= code < 300 and not 400 <= code < 600:
            raise InDoubt(_reply(code, text))
        self._expect("2", code, text)
        self.mails += 1
        self.used_at = time.monotonic()
        return _reply(code, text)

    def _expect_reply_to(self, command: str, code: int, text: bytes) -> None:
        if command.startswith("MAIL") and 500 <= code < 600 and code != _TOO_LARGE:
            raise NotTaken(f"the sender is refused: {_reply(code, text)}"[:500])
        self._expect("3" if command == "DATA" else "2", code, text)

    def _expect(self, first_digit: str, code: int, text: bytes) -> None:
        if str(code).startswith(first_digit):
            return
        if 500 <= code < 600 and code not in _NOT_ABOUT_THE_MAIL:
            raise Refused(_reply(code, text))
        if code == 421:
            raise ConnectionLost(_reply(code, text))
        raise NotTaken(_reply(code, text))

    @property
    def is_worn(self) -> bool:
        return self.mails >= _MAX_MAILS or time.monotonic() - self.used_at > _MAX_IDLE_S

    def close(self) -> None:
        """Drop the connection. Never says QUIT: it might still be in the middle of a mail."""
        self._smtp.close()


_local = threading.local()


def _kept(server: Server) -> Connection | None:
    """The connection this thread kept, if it still serves; the caller owns it from now on."""
    connection: Connection | None = getattr(_local, "connection", None)
    _local.connection = None
    if connection is None:
        return None
    # A forked child shares its parent's connection and must not send anything on it.
    if connection.pid == os.getpid() and connection.server == server and not connection.is_worn:
        return connection
    connection.close()
    return None


def _keep(connection: Connection) -> None:
    _local.connection = connection


def disconnect() -> None:
    """Close the connection that this thread keeps, if any."""
    if connection := getattr(_local, "connection", None):
        connection.close()
        _local.connection = None


def _connect(server: Server) -> smtplib.SMTP:
    if server.scheme == "smtps":
        context = ssl.create_default_context()
        return smtplib.SMTP_SSL(server.host, server.port, server.client_name, timeout=server.timeout_s, context=context)
    return smtplib.SMTP(server.host, server.port, server.client_name, timeout=server.timeout_s)


def _stuff_dots(raw: bytes) -> bytes:
    stuffed = (b"." if raw.startswith(b".") else b"") + raw.replace(b"\r\n.", b"\r\n..")
    return stuffed if stuffed.endswith(b"\r\n") else stuffed + b"\r\n"


def _reply(code: int, text: bytes) -> str:
    return f"{code} {text.decode('utf-8', 'replace')}"[:500].replace("\x00", "")


def _explain(error: Exception) -> str:
    if isinstance(error, smtplib.SMTPResponseException):
        text = error.smtp_error
        return _reply(error.smtp_code, text if isinstance(text, bytes) else str(text).encode())
    return f"{type(error).__name__}: {error}"[:500]
