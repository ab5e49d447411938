"""A web process does not grow with the number of requests it has answered."""

import http.client
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import BinaryIO

import psutil

from tests.factory import Factory
from tests.servers import Servers
from tests.webserver import WebServer

# Small bounds are reached before the first measurement; what grows after it has none.
_BOUNDED = {"CACHE_MEMORY_BYTES": "300000", "MALLOC_ARENA_MAX": "1"}
_ROUND = 1200
_LEAK_BYTES = 1000


class Visitor:
    """Sends mixed requests over one connection, many at a time, as fast as they are answered."""

    def __init__(self, web: WebServer, store_id: str, token: str) -> None:
        self._connection = socket.create_connection(("127.0.0.1", web.port), timeout=30)
        self._answers: BinaryIO = self._connection.makefile("rb")
        self._payments, self._packages = (f"/v1/stores/{store_id}/{name}" for name in ("payments", "packages"))
        self._token, self._numbers = token, count()

    def visit(self, requests: int) -> set[int]:
        """The statuses of the answers."""
        statuses = set()
        for _ in range(requests // 20):
            batch = [self._mixed(i) for i in range(20)]
            self._connection.sendall(b"".join(batch))
            statuses |= {self._status() for _ in batch}
        return statuses

    def _mixed(self, i: int) -> bytes:
        """Of 20 one is a payment, one is unknown, two are lists that nobody has asked for; the rest is cached."""
        number = next(self._numbers)
        if i == 0:
            body = json.dumps({"amount": 500, "currency": "EUR", "payment_method": "sandbox_ok"})
            return self._request("POST", self._payments, body, **{"Idempotency-Key": f"visit-{number}"})
        if i == 1:
            return self._request("GET", f"/v1/stores/{number}")
        if i in (2, 3):
            moment = datetime(1990, 1, 1, tzinfo=UTC) + timedelta(seconds=number)
            return self._request("GET", f"{self._payments}?created_at[gte]={moment:%Y-%m-%dT%H:%M:%SZ}")
        return self._request("GET", self._packages)

    def _request(self, method: str, path: str, body: str = "", **headers: str) -> bytes:
        headers |= {"Host": "test", "Authorization": f"Bearer {self._token}"}
        if body:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", body]
        return "\r\n".join(lines).encode()

    def _status(self) -> int:
        status, length = int(self._answers.readline().split()[1]), 0
        while (line := self._answers.readline()) != b"\r\n":
            name, _, value = line.partition(b": ")
            if name.lower() == b"content-length":
                length = int(value)
        self._answers.read(length)
        return status

    def close(self) -> None:
        self._answers.close()
        self._connection.close()


def test_thousands_of_mixed_requests_leave_the_memory_as_it_was(servers: Servers, make: Factory):
    owner = make.user()
    store = make.store(owner)
    make.payments(store, 50, users=[owner])
    with WebServer(servers, threads=2, **_BOUNDED) as web:
        visitor = Visitor(web, str(store.id), make.token(owner))
        try:
            assert visitor.visit(_ROUND) == {200, 202, 404}
            process = _process(web)
            before = process.memory_info().rss
            visitor.visit(2 * _ROUND)
            grown = process.memory_info().rss - before
        finally:
            visitor.close()
    assert grown < 2 * _ROUND * _LEAK_BYTES


def test_what_a_password_takes_to_be_checked_is_given_back(servers: Servers):
    """Strangers try to log in, several at once: each try takes 19 MiB for as long as it lasts."""
    with WebServer(servers, threads=8, RATE_LIMIT="off") as web:
        process = _process(web)
        before = process.memory_info().rss
        with ThreadPoolExecutor(8) as strangers:
            tried = list(strangers.map(partial(_log_in, web), range(24)))
        grown = process.memory_info().rss - before
    assert 401 in tried
    # Not even one of them is kept.
    assert grown < 12 * 2**20


def _log_in(web: WebServer, number: int) -> int:
    """As one who is not known, or is shed."""
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=30)) as connection:
        body = json.dumps({"email": f"stranger-{number}@example.com", "password": "wrong"})
        connection.request("POST", "/v1/tokens", body, {"Content-Type": "application/json"})
        return connection.getresponse().status


def _process(web: WebServer) -> psutil.Process:
    """The one that answers: gunicorn's worker."""
    (worker,) = psutil.Process(web.process.pid).children()
    return worker
