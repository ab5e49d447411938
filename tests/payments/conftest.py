"""A store with a customer, and workers that run when a test says so."""

import dataclasses
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import SimpleNamespace as Row
from typing import Any
from unittest.mock import patch
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient
from msgspec.structs import replace
from werkzeug.test import TestResponse

from dues.ids import new_id
from dues.jobs import kinds
from dues.jobs.kinds import QUEUES
from dues.mail.smtp import disconnect
from dues.pdf import typesetter
from dues.postgres import db
from tests.factory import Factory
from tests.payments.stripe_shop import StripeShop
from tests.payments.stripe_stand_in import StripeStandIn
from tests.typesetter_stand_in import TypesetterStandIn
from workers import registry
from workers.job import HANDLERS, Declared, make_due, perform, use_app

assert registry.MODULES
# To fork the process of the tests, which is large, takes most of the time of such a job.
_NEVER_FORKED = {
    name: dataclasses.replace(declared, kind=dataclasses.replace(declared.kind, forked=False))
    for name, declared in HANDLERS.items()
    if declared.kind.forked
}

_WITH_WORK = """
    select distinct queue from jobs
    where status = 'queued' and due and run_at <= now() and attempt < max_attempts and cancel_requested_at is null
"""


class Work:
    """The workers, in this process, as they find what is due where no relay wakes them; what they fork a process for is
    done here as well. Tests of these processes have workers of their own: tests/workers/test_processes.py."""

    def __init__(self, app: Flask, make: Factory) -> None:
        self._app = app
        self._make = make

    def drain(self) -> None:
        """Do what is due, and what becomes due by it."""
        use_app(self._app)
        # A handler in the main thread would take the alarm that bounds the test.
        with patch.dict(HANDLERS, _NEVER_FORKED), ThreadPoolExecutor(1) as worker:
            worker.submit(self._drain).result()

    def hurry(self) -> None:
        """Do what is queued for later, too: each job at least once."""
        self._make.rows("update jobs set run_at = now() where status = 'queued'")
        self.drain()

    def _drain(self) -> None:
        while make_due() + self._round():
            pass
        disconnect()

    def _round(self) -> int:
        """Most drains find nothing, or something in one queue: only where there is work is it asked for."""
        found = {row.queue for row in self._make.rows(_WITH_WORK)}
        return sum(perform(name) for name in QUEUES if name in found)


@pytest.fixture
def work(app: Flask, make: Factory, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Its documents are a stand-in's, which say nothing, unless the test is marked `typeset`."""
    if request.node.get_closest_marker("typeset") is None:
        monkeypatch.setattr(typesetter, "_process", lambda _: TypesetterStandIn())
    return Work(app, make)


_MAILS = (kinds.PAYMENT_CONFIRMATION, kinds.PAYMENT_NOTICE, kinds.PAYMENT_RETURNED, kinds.SUBSCRIPTION_NOTICE)


@pytest.fixture
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """The jobs that issue documents and write to people come to their turn, and end at once: for tests that look at
    neither. They would be more than half of what a test of charges takes."""
    for kind in _MAILS:
        monkeypatch.setitem(HANDLERS, kind.name, Declared(kind, lambda run, **args: None))


@pytest.fixture(autouse=True)
def told_if_looked_at(request: pytest.FixtureRequest) -> None:
    """Mails are sent and documents issued where a test looks at them: it has the `mailbox`, or is marked `typeset`."""
    if "mailbox" not in request.fixturenames and request.node.get_closest_marker("typeset") is None:
        request.getfixturevalue("untold")


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
    shop: Shop,
    work: Work,
    app: Flask,
    stripe_server: StripeStandIn,
    clean_books: Callable[[Flask], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[StripeShop]:
    """A store in real time that Stripe charges in. After each test its books are clean, and agree with what the
    stand-in has on record."""
    stripe_server.reset()
    settings = replace(app.extensions["settings"], stripe_api_url=stripe_server.url, gateway_timeout_s=2)
    monkeypatch.setitem(app.extensions, "settings", settings)
    yield StripeShop(shop, stripe_server, work, app)
    stripe_server.release.set()
    clean_books(app)
