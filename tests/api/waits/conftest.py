"""Clients that wait for jobs, and a server that holds them."""

import http.client
import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace as Row
from typing import Any
from uuid import UUID

import pytest

from dues.ids import new_id
from dues.jobs.notifications import tell_change
from tests.factory import Factory
from tests.jobs.conftest import Jobs, in_app, jobs
from tests.payments.conftest import Work, work
from tests.servers import Servers, wait_until
from tests.webserver import WebServer

__all__ = ["Work", "in_app", "jobs", "work"]

_PATIENCE_S = 30


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


class Caller:
    """A person with a token, at a server."""

    def __init__(self, port: int, user: Row, auth: dict[str, str], pool: ThreadPoolExecutor) -> None:
        self.port, self.user, self.auth = port, user, auth
        self._pool = pool
        # What has been asked for, to be looked at where a server does not hold whom it should.
        self.asked: list[Future[Answer]] = []

    def open(self, method: str, path: str, body: Any = None, **headers: str) -> http.client.HTTPConnection:
        """A connection on which a request has been sent."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE_S)
        sent = self.auth | {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent["Content-Type"] = "application/json"
        connection.request(method, path, None if body is None else json.dumps(body), sent)
        return connection

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = self.open(method, path, body, **headers)
        try:
            answer = connection.getresponse()
            return Answer(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def later(self, method: str, path: str, body: Any = None, **headers: str) -> "Future[Answer]":
        """Ask, and be answered some time."""
        answer = self._pool.submit(self.ask, method, path, body, **headers)
        self.asked.append(answer)
        return answer

    def poll(self, job_id: UUID, version: int = 1, wait: int = 20, **headers: str) -> "Future[Answer]":
        return self.later("GET", f"/v1/jobs/{job_id}", If_None_Match=f'"{version}"', Prefer=f"wait={wait}", **headers)


class Hall:
    """Everybody at one server."""

    def __init__(self, web: WebServer, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor) -> None:
        self.web, self.make, self.jobs = web, make, jobs
        self._pool = pool
        self._callers: list[Caller] = []
        self.me = self.caller()

    def caller(self, user: Row | None = None, *scopes: str) -> Caller:
        user = user or self.make.user()
        caller = Caller(self.web.port, user, self.make.auth(user, *scopes), self._pool)
        self._callers.append(caller)
        return caller

    def job(self, **options: Any) -> UUID:
        return self.jobs.add(**{"owner_id": self.me.user.id} | options)

    def change(self, job_id: UUID) -> None:
        """Have the job move on."""
        self.jobs.change(job_id, "version = version + 1")
        tell_change(job_id)

    def introduce(self, caller: Caller) -> None:
        """Have the server know a caller's token, as if the caller had asked before."""
        answer = caller.get(f"/v1/jobs/{self.job(owner_id=caller.user.id)}")
        assert answer.status == 200, answer

    @property
    def waiting(self) -> int:
        return self._metric("dues_waiting_clients")

    @property
    def waiting_for_changes(self) -> int:
        return self._metric("dues_clients_of_changes")

    @property
    def statements(self) -> int:
        """How many statements the server has sent for requests, but for what it reads for those that wait."""
        # They are entered a moment after the answer.
        time.sleep(1)
        return self._metric("dues_db_statements_total")

    def _metric(self, name: str) -> int:
        with urllib.request.urlopen(f"{self.web.url}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(f"{name} "):
                    return int(float(line.split()[1]))
        return 0

    def wait_for(self, waiting: int) -> None:
        """Return when the server holds so many clients."""
        try:
            wait_until(lambda: self.waiting == waiting, 20, f"{waiting} waiting clients")
        except AssertionError as error:
            answers = [one.result() for caller in self._callers for one in caller.asked if one.done()]
            raise AssertionError(f"{error}: there are {self.waiting}, and answered were {answers}") from error

    def pay(self, store: Row, method: str = "sandbox_ok", key: str = "", **headers: str) -> "Future[Answer]":
        body = {"amount": 1500, "currency": "EUR", "payment_method": method}
        sent = {"Idempotency_Key": key or new_id().hex, **headers}
        return self.me.later("POST", f"/v1/stores/{store.id}/payments", body, **sent)


@pytest.fixture(scope="session")
def web(servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, threads=2) as server:
        yield server


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(32) as pool:
        yield pool


@pytest.fixture
def hall(web: WebServer, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor) -> Iterator[Hall]:
    hall = Hall(web, make, jobs, pool)
    yield hall
    hall.wait_for(0)
