"""What a stranger may send over a raw socket: nobody becomes somebody else by it, and nothing is passed by."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from itertools import product

import pytest
import ujson
from flask import Flask

from tests.factory import Factory
from tests.servers import Servers
from tests.webserver import WebServer

TARGETS = ["server:app", "wsgi:app"]
SPELLINGS = ["/{}", "//{}", "///{}", "/%2f{}", "/%2F{}", "/./{}", "/x/../{}", "/v1/..//{}"]


class Raw:
    """One connection, on which any bytes can be sent."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10)

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def read(self, seconds: float = 1.0) -> bytes:
        """All that comes until the server closes, or is silent for so long."""
        found = b""
        self._socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while part := self._socket.recv(65536):
                found += part
        return found

    def end(self) -> None:
        """Send no more."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


def ask(server: WebServer, head: str, *later: bytes, pause_s: float = 0.3) -> bytes:
    """What comes for a head (its lines) and for what is sent some time after it."""
    raw = Raw(server.port)
    with contextlib.closing(raw):
        raw.send(head.strip().replace("\n", "\r\n").encode() + b"\r\n\r\n")
        for part in later:
            time.sleep(pause_s)
            with contextlib.suppress(OSError):
                raw.send(part)
        return raw.read()


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3})", answer)]


@pytest.fixture(params=TARGETS)
def server(request: pytest.FixtureRequest, app: Flask, servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, target=request.param, RATE_LIMIT="40/60") as server:
        yield server


def test_another_spelling_of_a_path_is_no_way_into_another_store(server: WebServer, make: Factory):
    own, victim = make.store(owner := make.user()), make.store()
    make.payment(victim)
    for spelling in SPELLINGS[1:]:
        auth = make.auth(owner)["Authorization"]
        for store in (own, victim):
            path = spelling.format(f"v1/stores/{store.id}/payments")
            answer = ask(server, f"GET {path} HTTP/1.1\nHost: x\nConnection: close\nAuthorization: {auth}")
            assert statuses(answer) == [404], (spelling, answer)
            assert b"/problems/not_found" in answer


def test_no_spelling_of_logging_in_passes_the_limit_by(server: WebServer, make: Factory):
    make.user(email="ada@example.com")
    body = ujson.dumps({"email": "ada@example.com", "password": "guessed"})
    served = []
    for spelling in SPELLINGS * 3:
        head = (
            f"POST {spelling.format('v1/tokens')} HTTP/1.1\nHost: x\nContent-Type: application/json\n"
            f"Content-Length: {len(body)}\nConnection: close"
        )
        served += statuses(ask(server, head, body.encode(), pause_s=0))
    # Logging in has a tenth of forty, in one window or two.
    assert served.count(401) <= 8, served
    assert set(served) <= {401, 404, 429}


@pytest.mark.parametrize("server", TARGETS[:1], indirect=True)
def test_what_follows_a_body_is_no_header(server: WebServer, make: Factory):
    store = make.store(owner := make.user())
    auth = make.auth(owner)["Authorization"]
    path = f"/v1/stores/{store.id}/payments"
    head = f"GET {path} HTTP/1.1\nHost: x\nConnection: close\nTransfer-Encoding: chunked"
    trailer = f"0\r\nAuthorization: {auth}\r\n\r\n".encode()
    assert statuses(ask(server, head, trailer)) == [401]
    assert statuses(ask(server, head, trailer, pause_s=0)) == [401]
    assert statuses(ask(server, f"GET {path} HTTP/1.1\nHost: x\nConnection: close")) == [401]

    public = f"GET /v1/stores/{store.id}/packages HTTP/1.1\nHost: x\nConnection: close"
    ask(server, f"{public}\nTransfer-Encoding: chunked", b"0\r\nAccept-Encoding: br\r\n\r\n")
    assert b"content-encoding" not in ask(server, public).lower()


def test_half_a_body_is_not_carried_out(server: WebServer, make: Factory):
    store = make.store(owner := make.user())
    auth = make.auth(owner)["Authorization"]
    package = b'{"name": "Gold", "price": {"amount": 1500, "currency": "EUR"}}'
    rows = b"name,email\nAda,ada@example.com\n"
    for path, kind, sent in (("packages", "application/json", package), ("imports?kind=customers", "text/csv", rows)):
        head = (
            f"POST /v1/stores/{store.id}/{path} HTTP/1.1\nHost: x\nAuthorization: {auth}\n"
            f"Idempotency-Key: key\nContent-Type: {kind}\nContent-Length: {len(sent) + 100}"
        )
        raw = Raw(server.port)
        with contextlib.closing(raw):
            raw.send(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + sent)
            raw.end()
            answer = raw.read()
        assert statuses(answer) == [400], answer
        assert b"/problems/malformed_request" in answer
    assert make.value("select count(*) from jobs") == 0


def test_a_body_behind_a_wish_for_another_protocol_is_no_request(server: WebServer):
    inner = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Request-Id: smuggled\r\n\r\n"
    for upgrade, pause_s in product(("foo", "h2c", "websocket"), (0.3, 0)):
        head = (
            f"POST /v1/users HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: {upgrade}\n"
            f"Content-Type: application/json\nContent-Length: {len(inner)}"
        )
        answer = ask(server, head, inner, pause_s=pause_s)
        assert len(statuses(answer)) == 1, answer
        assert b'"ok"' not in answer
