"""A mail server that delivers nothing: it stores each mail as a file, and tells whether it has accepted a mail.

It speaks SMTP on one port of the loopback interface. A mail answered with 250 is a file `<time>-<Message-ID>.eml` in
the folder. The file is written completely under another name and renamed before the answer, so it survives the death of
this process. `Return-Path` and `Delivered-To` are added at the top from the envelope, as a delivering server does.

It speaks HTTP on another port: `GET /messages/{Message-ID}` answers 200 `{"accepted":true,"at":…,"count":1}` or 404.

Both require the user `dues` and the password in DUES_MAIL_PASSWORD, which is new for each server: other users of this
machine can reach its ports, but can neither send mails nor learn of any.

With `--faults`, for tests, `POST /behave` accepts `{"next": [{"at": "dot", "do": "451"}, …], "delay_ms": 50, "lookup":
503}`. The faults in `next` happen one after the other, each at its moment (`at`): `mail`, `rcpt`, `data`, `dot` (all
before the mail is stored) or `after_accept` (stored, but not answered yet). `do` says what happens: a reply code such
as `451` or `550`; `hang` for `seconds`; `reset` of the connection; `kill` of the whole server; `accept`, nothing.
`delay_ms` delays each answer to a dot; `lookup` is the status of all lookups.
"""

import argparse
import asyncio
import base64
import hmac
import json
import os
import secrets
import signal
import socket
import struct
import sys
import threading
import uuid
import warnings
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, unquote
from urllib.request import Request

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from local import folders, ports
from local.process import Program, Server

_LARGEST_MAIL = 32 * 1024 * 1024
_LONGEST_NAME = 200
_USER = "dues"
_PASSWORD = "DUES_MAIL_PASSWORD"  # noqa: S105  (the variable's name)


class MailSink(Server):
    """The mail server in a process of its own; mails go to `$DUES_HOME/mail`."""

    def __init__(self, home: Path, *, faults: bool = False) -> None:
        self._home = home.resolve()
        self._faults = faults
        self._smtp_port, self._http_port = ports.free_port(), ports.free_port()
        self._password = secrets.token_urlsafe(24)

    @property
    def folder(self) -> Path:
        return self._home / "mail"

    @property
    def smtp_url(self) -> str:
        return f"smtp://{_USER}:{self._password}@127.0.0.1:{self._smtp_port}"

    @property
    def lookup_url(self) -> str:
        return f"http://{_USER}:{self._password}@127.0.0.1:{self._http_port}/messages"

    def request(self, path: str, body: bytes | None = None) -> Request:
        """A request to the HTTP port; a POST if it has a body."""
        url = f"http://127.0.0.1:{self._http_port}{path}"
        return Request(url, body, {"Authorization": _authorization(self._password)})

    def prepare(self) -> Program:
        folders.private(self.folder)
        arguments = [str(self.folder), str(self._smtp_port), str(self._http_port)]
        return Program(
            name="mail",
            argv=[sys.executable, "-m", "local.mailsink", *arguments, *(["--faults"] if self._faults else [])],
            cwd=Path(__file__).resolve().parent.parent,
            env={**os.environ, _PASSWORD: self._password},
            ready=lambda: ports.answers(self._smtp_port) and ports.answers(self._http_port),
            log=self._home / "log" / "mail.log",
        )


class MailFolder:
    """The folder of mails, and for each Message-ID when it was first stored and how often."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._filed: dict[str, tuple[str, int]] = {}
        for file in sorted(folder.glob("*.eml")):
            moment, _, name = file.stem.partition("-")
            self._count(name, moment)

    def file(self, envelope: Envelope) -> None:
        """Store a mail in the folder, completely or not at all."""
        content = envelope.content if isinstance(envelope.content, bytes) else (envelope.content or "").encode()
        message_id = str(BytesHeaderParser().parsebytes(content).get("Message-ID", "")) or uuid.uuid4().hex
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        lines = [f"Return-Path: <{envelope.mail_from or ''}>", *(f"Delivered-To: {to}" for to in envelope.rcpt_tos)]
        unfinished = self._folder / f".{uuid.uuid4().hex}"
        unfinished.write_bytes("".join(f"{line}\r\n" for line in lines).encode() + content)
        name = _file_name(message_id)
        while (target := self._folder / f"{moment}-{name}.eml").exists():
            moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        unfinished.rename(target)
        self._count(name, moment)

    def find(self, message_id: str) -> tuple[str, int] | None:
        """When a mail was first stored and how many times; None if it was not."""
        return self._filed.get(_file_name(message_id))

    def _count(self, name: str, moment: str) -> None:
        with self._lock:
            first, count = self._filed.get(name, (moment, 0))
            self._filed[name] = (first, count + 1)


def _authorization(password: str) -> str:
    return "Basic " + base64.b64encode(f"{_USER}:{password}".encode()).decode()


def _file_name(message_id: str) -> str:
    return quote(message_id.strip().strip("<>"), safe="@.+=")[:_LONGEST_NAME]


@dataclass
class Behaviour:
    """The faults that a test has requested."""

    next: deque[dict[str, Any]] = field(default_factory=deque)
    delay_ms: int = 0
    lookup: int | None = None

    def take(self, moment: str) -> dict[str, Any] | None:
        if self.next and self.next[0].get("at", "dot") == moment:
            return self.next.popleft()
        return None


class Handler:
    """The handler that aiosmtpd calls at each step of a mail."""

    def __init__(self, mail_folder: MailFolder, behaviour: Behaviour) -> None:
        self._mail_folder = mail_folder
        self._behaviour = behaviour

    async def handle_MAIL(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self.misbehave("mail", server):
            return reply
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 OK"

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if reply := await self.misbehave("rcpt", server):
            return reply
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        await asyncio.sleep(self._behaviour.delay_ms / 1000)
        if reply := await self.misbehave("dot", server):
            return reply
        self._mail_folder.file(envelope)
        if reply := await self.misbehave("after_accept", server):
            return reply
        return "250 OK: filed"

    async def misbehave(self, moment: str, server: SMTP) -> str | None:
        """Carry out the fault for `moment`, if any. Returns: the reply to give; None to continue."""
        fault = self._behaviour.take(moment)
        match fault and fault["do"]:
            case None | "accept":
                return None
            case "hang":
                await asyncio.sleep(fault["seconds"] if fault else 0)
                return None
            case "reset":
                _reset(server)
                # Losing the connection cancels this task.
                await asyncio.sleep(60)
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case code:
                return f"{code} as asked"
        return None


def _reset(server: SMTP) -> None:
    linger_none = struct.pack("ii", 1, 0)
    transport = cast(asyncio.Transport, server.transport)
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_none)
    transport.abort()


class Smtp(SMTP):
    """aiosmtpd's server, which can also fail before it asks for the content of a mail."""

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802
        if reply := await self.event_handler.misbehave("data", self):
            await self.push(reply)
        else:
            await super().smtp_DATA(arg)


class Lookup(BaseHTTPRequestHandler):
    """The HTTP port: questions about mails and, in tests, requests for faults."""

    protocol_version = "HTTP/1.1"

    def __init__(
        self, mail_folder: MailFolder, behaviour: Behaviour, faults: bool, password: str, *connection: Any
    ) -> None:
        self._mail_folder = mail_folder
        self._expected = _authorization(password)
        self._behaviour = behaviour
        self._faults = faults
        super().__init__(*connection)

    def parse_request(self) -> bool:
        """Refuse clients that do not know the password, before anything is done."""
        if not super().parse_request():
            return False
        given = self.headers.get("Authorization", "")
        if hmac.compare_digest(given.encode(), self._expected.encode()):
            return True
        self.close_connection = True
        self._answer(HTTPStatus.UNAUTHORIZED, {})
        return False

    def do_GET(self) -> None:
        folder, _, name = self.path.lstrip("/").partition("/")
        if folder != "messages" or not name:
            return self._answer(HTTPStatus.NOT_FOUND, {})
        if self._behaviour.lookup is not None:
            return self._answer(self._behaviour.lookup, {})
        found = self._mail_folder.find(unquote(name))
        if found is None:
            return self._answer(HTTPStatus.NOT_FOUND, {"accepted": False})
        at = datetime.strptime(found[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC).isoformat()
        return self._answer(HTTPStatus.OK, {"accepted": True, "at": at, "count": found[1]})

    def do_POST(self) -> None:
        if self.path != "/behave" or not self._faults:
            return self._answer(HTTPStatus.NOT_FOUND, {})
        orders = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._behaviour.next = deque(orders.get("next", []))
        self._behaviour.delay_ms = orders.get("delay_ms", 0)
        self._behaviour.lookup = orders.get("lookup")
        return self._answer(HTTPStatus.OK, {})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: a line for each request would hide the rest."""


async def serve(folder: Path, smtp_port: int, http_port: int, faults: bool, password: str) -> None:
    """Run both servers until SIGTERM."""
    # The library wants TLS for passwords, but only the kernel sees what goes over the loopback interface.
    warnings.filterwarnings("ignore", "Requiring AUTH while not requiring TLS")
    mail_folder, behaviour = MailFolder(folder), Behaviour()
    lookup = ThreadingHTTPServer(("127.0.0.1", http_port), partial(Lookup, mail_folder, behaviour, faults, password))
    threading.Thread(target=lookup.serve_forever, daemon=True).start()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    handler = Handler(mail_folder, behaviour)
    await loop.create_server(
        lambda: Smtp(
            handler,
            hostname="localhost",
            data_size_limit=_LARGEST_MAIL,
            enable_SMTPUTF8=True,
            authenticator=partial(_authenticate, password),
            auth_required=True,
            auth_require_tls=False,
        ),
        "127.0.0.1",
        smtp_port,
    )
    await stop.wait()


def _authenticate(
    password: str, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: object
) -> AuthResult:
    expected = LoginPassword(_USER.encode(), password.encode())
    known = isinstance(given, LoginPassword) and hmac.compare_digest(b":".join(given), b":".join(expected))
    return AuthResult(success=known, handled=False)


def main(argv: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m local.mailsink", description="a mail server that files each mail")
    parser.add_argument("folder", type=Path)
    parser.add_argument("smtp_port", type=int)
    parser.add_argument("http_port", type=int)
    parser.add_argument("--faults", action="store_true", help="let POST /behave make it misbehave")
    given = parser.parse_args(argv)
    asyncio.run(serve(given.folder, given.smtp_port, given.http_port, given.faults, os.environ[_PASSWORD]))


if __name__ == "__main__":
    main(sys.argv[1:])
