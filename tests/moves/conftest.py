"""Two Dues: that of the other tests, and another with servers of its own."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from types import SimpleNamespace as Row
from typing import IO, Any
from uuid import UUID

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg2.extras import Json

from api.app import create_app
from dues.ids import new_id
from dues.moves import states
from dues.moves.arrival import receive
from dues.moves.departure import move
from dues.moves.fence import Fence
from dues.moves.rows import all_columns
from dues.moves.tables import MOVED
from dues.moves.wire import Lost, Refused, Wire
from dues.payments.gateways import place_of
from dues.payments.hooks import offer_sweeps
from dues.postgres import db
from dues.postgres.changing import changing
from dues.settings import settings
from dues.vault import seal
from tests.billing.conftest import Club, make_club
from tests.factory import Factory
from tests.jobs.conftest import in_app, jobs
from tests.payments.conftest import Work, work
from tests.servers import Servers

__all__ = ["in_app", "jobs", "make_club", "work"]

ADDRESS = "https://other.example"
STRIPE_SECRET = "whsec_standinSECRET0123456789"
PAYMENT = {"amount": 1500, "currency": "EUR", "payment_method": "sandbox_ok"}


class End:
    """A Dues that stores leave and arrive at."""

    def __init__(self, app: Flask, servers: Servers, make: Factory) -> None:
        self.app, self.servers, self.make = app, servers, make
        self.said: list[str] = []
        # Called with each line that a move says, as it says it.
        self.hear: Callable[[str], object] = lambda line: None
        # Makes another wire of the one to this end: to have it fail.
        self.wrap: Callable[[Wire], Wire] = lambda wire: wire

    def move(self, store: Row, other: "End", longest_wait_s: float = 10.0) -> str:
        """As `flask stores move`."""

        def tell(line: str) -> None:
            self.said.append(line)
            self.hear(line)

        with self.app.app_context():
            return move(store.id, other.reach, tell, longest_wait_s=longest_wait_s)

    def refusal(self, store: Row, other: "End") -> str:
        """What a move is refused with, or nothing where it is not."""
        try:
            self.move(store, other)
        except Refused as error:
            return str(error)
        return ""

    @contextmanager
    def reach(self) -> Iterator[Wire]:
        """As `Command` does, without another process."""
        with _pipe() as (there, to), _pipe() as (back, answers):
            thread = threading.Thread(target=self._receive, args=(there, answers))
            thread.start()
            try:
                yield self.wrap(Wire(back, to))
            finally:
                with suppress(OSError):
                    to.close()
                thread.join(30)
                assert not thread.is_alive()

    def _receive(self, source: IO[bytes], sink: IO[bytes]) -> None:
        with self.app.app_context(), suppress(Lost, Refused):
            try:
                receive(Wire(source, sink))
            finally:
                # As a process that ends.
                for file in (source, sink):
                    with suppress(OSError):
                        file.close()

    def contents(self, store: Row) -> dict[str, list[str]]:
        """All rows of a store, by table, as text."""
        found, columns = {}, _columns_at(self.servers.database_url)
        for table in MOVED:
            values = ", ".join(columns[table.name])
            select = f"select row({values})::text as text from {table.name} where {table.rows} order by 1"
            found[table.name] = [row.text for row in self.make.rows(select, {"store_id": store.id})]
        return found

    @contextmanager
    def fenced(self, store: Row) -> Iterator[None]:
        """For the length of the block the store is as a move leaves it that was killed while it copied."""
        with self.app.app_context():
            with changing(settings()) as session:
                fence = Fence(session, store.id)
                states.begin(store.id, new_id(), "copying")
                fence.hold_jobs()
                fence.refuse_writes()
            try:
                yield
            finally:
                with changing(settings()) as session:
                    Fence(session, store.id).lift(free_jobs=True)
                states.forget(store.id)

    def at_each_phase(self, monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], object]) -> None:
        """Have `ask` be called while a move holds jobs, as it copies, and once the other end has all of the store."""
        wait, phases = Fence.wait_for_jobs, {"takes no writes": "copying", "deleting its rows": "switching"}

        def waiting(fence: Fence, *given: Any) -> None:
            ask("holding")
            wait(fence, *given)

        def hear(line: str) -> None:
            for said, phase in phases.items():
                if said in line:
                    ask(phase)

        monkeypatch.setattr(Fence, "wait_for_jobs", waiting)
        self.hear = hear

    @property
    def work(self) -> Work:
        return Work(self.app, self.make)

    def is_untouched(self, store: Row) -> bool:
        """Nothing tells that a store was about to move."""
        triggers = self.make.value("select count(*) from pg_trigger where tgname like 'moving_%%'")
        moves = self.make.rows("select * from store_moves where state <> 'here'")
        held = self.make.value("select count(*) from jobs where queue like 'moving:%%'")
        return bool((triggers, moves, held) == (0, [], 0))


@cache
def _columns_at(database_url: str) -> dict[str, list[str]]:
    with closing(psycopg2.connect(database_url)) as connection:
        return all_columns(connection.cursor())


@contextmanager
def _pipe() -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    source, sink = os.pipe()
    files = os.fdopen(source, "rb"), os.fdopen(sink, "wb")
    try:
        yield files
    finally:
        for file in files:
            with suppress(OSError):
                file.close()


@pytest.fixture
def here(app: Flask, servers: Servers, make: Factory) -> End:
    return End(app, servers, make)


@pytest.fixture(scope="session")
def _elsewhere(worker_id: str) -> Iterator[tuple[Flask, Servers]]:
    cluster, template = os.environ["DUES_TESTS_CLUSTER"], os.environ["DUES_TESTS_TEMPLATE"]
    servers = Servers(cluster, template, f"{worker_id}_elsewhere")
    app = create_app(servers.settings(public_url=ADDRESS))
    app.testing = False
    yield app, servers
    with app.app_context():
        db.engine.dispose()
    servers.stop()


@pytest.fixture
def elsewhere(_elsewhere: tuple[Flask, Servers]) -> End:
    app, servers = _elsewhere
    servers.clean()
    return End(app, servers, Factory(servers.direct))


@pytest.fixture
def shop(app: Flask, client: FlaskClient, make: Factory, work: Work) -> Club:
    """A store with a package, a post, and a payment that was made and confirmed."""
    shop = Club(app, client, make, work, now=None)
    shop.package()
    make.post(shop.owner, store=shop.store)
    headers = {**shop.owner_auth, "Idempotency-Key": new_id().hex}
    answer = client.post(f"{shop.path}/payments", json=PAYMENT, headers=headers)
    assert answer.status_code == 202, answer.text
    work.drain()
    return shop


@pytest.fixture
def club(make_club: Any) -> Club:
    """With rows in every table that a store may have rows in, and clean books."""
    club: Club = make_club("2025-06-01")
    member = club.member(email_verified_at=None)
    path = member.subscribe(club.package())
    member.given(300)
    club.client.delete(path, json={"refund": "unused"}, headers=club.owner_auth)
    member.post(f"{club.path}/payments", {"amount": 700, "currency": "EUR", "payment_method": "sandbox_disputed"})
    club.work.drain()
    with club.app.app_context():
        offer_sweeps()
    club.work.drain()
    _add_files(club)
    _add_posts(club, member.user)
    add_gateway(club, member.user)
    delivered = club.make.delivery(club.make.endpoint(club.store), club.make.event(club.store))
    assert delivered.status == "succeeded"
    club.make.token(club.owner, store_id=club.store.id)
    return club


def _add_files(club: Club) -> None:
    asked = {"kind": "payments", "format": "csv", "from": "2025-01-01T00:00:00Z", "to": "2026-01-01T00:00:00Z"}
    headers = {**club.owner_auth, "Idempotency-Key": new_id().hex}
    assert club.client.post(f"{club.path}/reports", json=asked, headers=headers).status_code == 202
    brought = "external_id,email,name\n1,ada@example.com,Ada\n2,nowhere,Bob\n"
    headers |= {"Idempotency-Key": new_id().hex, "Content-Type": "text/csv"}
    answer = club.client.post(f"{club.path}/imports?kind=customers", data=brought, headers=headers)
    assert answer.status_code == 202, answer.text
    club.work.drain()
    club.make.rows(
        "insert into import_refusals(store_id, import_id, line, external_id, code, pointer, detail)"
        " select store_id, id, 9, '9', 'invalid', '', 'is wrong' from imports"
    )


def _add_posts(club: Club, reader: Row) -> None:
    make, store = club.make, club.store
    post = make.post(club.owner, store=store, package_ids=[club.package().id], privacy="members")
    make.comment(post, reader)
    make.like(post, reader)
    make.insert("post_stat_shards", {"post_id": post.id, "shard": 3, "likes": 2})
    named = {"store_id": store.id, "post_id": post.id}
    mailing = make.insert(
        "mailings",
        {**named, "id": new_id(), "requested_by": club.owner.id, "subject": "", "body": "", "status": "succeeded"},
    )
    make.insert(
        "mailing_recipients",
        {**named, "user_id": reader.id, "mailing_id": mailing.id, "domain": "example.com", "status": "sent"},
    )
    make.insert(
        "mail_suppressions",
        {"store_id": store.id, "user_id": reader.id, "reason": "unsubscribed", "address": reader.email},
    )
    make.rows("insert into store_logos(store_id, content) values (%(id)s, '\\x89')", {"id": store.id})
    make.rows("insert into trial_uses values (%(id)s, '\\x01', gen_random_uuid(), now())", {"id": store.id})


def add_account(club: Club, account_id: UUID, **columns: Any) -> None:
    """An account of the store's own at a gateway."""
    secrets = {"secret_key": "sk_test_1", "webhook_secret": STRIPE_SECRET}
    with club.app.app_context():
        sealed = {name: seal(value, place_of(club.store.id, account_id, name)) for name, value in secrets.items()}
    account = {"store_id": club.store.id, "id": account_id, "type": "stripe", "reference": "acct_1"}
    club.make.insert("gateway_accounts", account | sealed | columns)


def add_gateway(club: Club, payer: Row) -> None:
    make, store_id, account_id = club.make, club.store.id, new_id()
    add_account(club, account_id, type="sandbox", replaced_at="2025-06-01T00:00:00Z")
    names = {"store_id": store_id, "account_id": account_id, "user_id": payer.id}
    make.insert("gateway_customers", names | {"reference": "cus_1"})
    make.insert("payment_setups", names | {"id": new_id(), "status": "failed", "next_action": Json(None)})
    make.rows(
        "insert into gateway_events(store_id, gateway, event_id, about, name, received_at)"
        " values (%(id)s, 'stripe', 'evt_1', 'charge', 'x', now())",
        {"id": store_id},
    )
    make.payment_method(payer, store_id=store_id, is_default=False)
