"""A store with a customer, and relay and workers that run when a test says so."""

import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace as Row
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from msgspec.structs import replace
from redis import Redis
from werkzeug.test import TestResponse

from dues.billing.audit import audit
from dues.ids import new_id
from dues.jobs.kinds import QUEUES
from dues.mail.smtp import disconnect
from dues.postgres import db
from tests.factory import Factory
from tests.payments.stripe_shop import StripeShop
from tests.payments.stripe_stand_in import StripeStandIn
from tests.servers import Servers
from workers import registry
from workers.job import HANDLERS, perform, use_app
from workers.relay import relay_once
from workers.rq_queues import queue

assert registry.MODULES
# To fork the process of the tests, which is large, takes most of the time of such a job.
_NEVER_FORKED = {
    name: dataclasses.replace(declared, kind=dataclasses.replace(declared.kind, forked=False))
    for name, declared in HANDLERS.items()
    if declared.kind.forked
}


class Work:
    """The relay and the workers, in this process: what is due is done, and so is what workers fork a process
    for. Tests of these processes have workers of their own: tests/workers/test_processes.py."""

    def __init__(self, app: Flask, redis: Redis, make: Factory) -> None:
        self._app = app
        self._redis = redis
        self._make = make

    def drain(self) -> None:
        """Do what is due, and what becomes due by it."""
        use_app(self._app)
        # A handler in the main thread would take the alarm that bounds the test.
        with patch.dict(HANDLERS, _NEVER_FORKED), ThreadPoolExecutor(1) as worker:
            while worker.submit(self._hand_over).result():
                for name in QUEUES:
                    queue(name, self._redis).empty()
                    worker.submit(perform, name).result()
            worker.submit(disconnect).result()

    def hurry(self) -> None:
        """Do what is queued for later, too: each job at least once."""
        self._make.rows("update jobs set run_at = now() where status = 'queued'")
        self.drain()

    def _hand_over(self) -> int:
        with self._app.app_context():
            return relay_once()


@pytest.fixture
def work(app: Flask, servers: Servers, make: Factory) -> Iterator[Work]:
    with closing(Redis.from_url(servers.redis_url)) as redis:
        yield Work(app, redis, make)


@dataclass
class Shop:
    """A store, its owner and a customer, and what they send."""

    client: FlaskClient
    make: Factory
    owner: Row
    store: Row
    customer: Row
    owner_auth: dict[str, str]
    auth: dict[str, str]

    @property
    def path(self) -> str:
        return f"/v1/stores/{self.store.id}/payments"

    def post(self, path: str, body: Any, auth: dict[str, str] | None = None, key: str = "") -> TestResponse:
        headers = {**(auth or self.auth), "Idempotency-Key": key or new_id().hex}
        return self.client.post(path, json=body, headers=headers)

    def pay(self, method: str = "sandbox_ok", **body: Any) -> dict[str, Any]:
        """The customer pays 15.00 EUR, or what `body` says. Returns: the payment as it was accepted."""
        terms = body or {"amount": 1500, "currency": "EUR"}
        answer = self.post(self.path, {"payment_method": method, **terms})
        assert answer.status_code == 202, answer.text
        return answer.json or {}

    def get(self, path: str, auth: dict[str, str] | None = None) -> dict[str, Any]:
        answer = self.client.get(path, headers=auth or self.auth)
        assert answer.status_code == 200, answer.text
        return answer.json or {}

    def payment(self, payment_id: str) -> dict[str, Any]:
        return self.get(f"{self.path}/{payment_id}")

    def refund(self, payment_id: str, **body: Any) -> TestResponse:
        return self.post(f"{self.path}/{payment_id}/refunds", body, self.owner_auth)

    def events(self, payment_id: str) -> list[str]:
        """The states of a payment, in the order in which they were committed. Ids follow the clock of the process that
        made them, and a clock may be set back between two processes."""
        rows = self.make.rows(
            "select from_status, to_status from payment_events where payment_id = %(id)s order by age(xmin) desc, id",
            {"id": payment_id},
        )
        states = [row.to_status for row in rows]
        assert [row.from_status for row in rows] == [None, *states[:-1]]
        return states

    def charged(self, payment_id: str) -> list[int]:
        """The amounts that the gateway's own books say were charged for a payment."""
        return [
            row.amount
            for row in self.make.rows(
                "select amount from sandbox_gateway.operations"
                " where kind = 'charge' and outcome = 'succeeded' and key = %(id)s",
                {"id": payment_id},
            )
        ]

    def job(self, link: str) -> Row:
        """The job that a link of a payment leads to."""
        return self.make.rows("select * from jobs where id = %(id)s", {"id": UUID(link.rpartition("/")[2])})[0]


@pytest.fixture
def shop(client: FlaskClient, make: Factory) -> Shop:
    owner, customer = make.user(name="Olga Owner"), make.user(name="Carl Customer")
    return Shop(client, make, owner, make.store(owner), customer, make.auth(owner), make.auth(customer))


@pytest.fixture
def in_app(app: Flask) -> Iterator[Flask]:
    """The application, with its context."""
    with app.app_context():
        yield app
        db.session.remove()


@pytest.fixture(scope="session")
def stripe_server() -> Iterator[StripeStandIn]:
    server = StripeStandIn()
    yield server
    server.stop()


@pytest.fixture
def stripes(
    shop: Shop, work: Work, app: Flask, stripe_server: StripeStandIn, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StripeShop]:
    """A store in real time that Stripe charges in. After each test its books are clean, and agree with what the
    stand-in has on record."""
    stripe_server.reset()
    settings = replace(app.extensions["settings"], stripe_api_url=stripe_server.url, gateway_timeout_s=0.5)
    monkeypatch.setitem(app.extensions, "settings", settings)
    yield StripeShop(shop, stripe_server, work, app)
    stripe_server.release.set()
    with app.app_context():
        assert audit() == []
