"""A primary that dies and a standby that takes over, without the last transactions: what is acknowledged afterwards is
shown at once by every web server, and what was lost is shown no more, although ids are given out a second time."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from types import SimpleNamespace as Row
from typing import Any

import psycopg2
import pytest

from api.app import create_app
from dues.ids import new_id
from dues.postgres import db
from dues.reads.freshness import restore_cache_once
from local.postgres import Postgres
from local.standby import socket_of, standby_of, value
from tests.factory import Factory
from tests.reads.freshness.test_processes import Client
from tests.servers import Backing, Direct, Home, Servers, run_migrations, running, wait_until
from tests.webserver import WebServer


@contextmanager
def superuser(server: Postgres) -> Iterator[Any]:
    with closing(psycopg2.connect(server.url_of("postgres"), user="postgres")) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


class House(Backing):
    """What the web servers stand on: both PostgreSQLs by one URL, whichever takes writes."""

    def __init__(self, servers: Servers, primary: Postgres, standby: Postgres) -> None:
        self.home, self.redis_url, self.mail = servers.home, servers.redis_url, servers.mail
        hosts = f"{socket_of(primary)},{socket_of(standby)}"
        self.database_url = f"postgresql://dues@/dues?host={hosts}&port=5432,5432&target_session_attrs=read-write"


class Shop:
    """A store, and those who pay there and look, each at a web server of their own."""

    def __init__(self, webs: list[WebServer], store: Row, auth: dict[str, str]) -> None:
        self.clients = [Client(web, auth) for web in webs]
        self._auth, self._path = auth, f"/v1/stores/{store.id}/payments"

    def pay(self, client: Client) -> str:
        """The id of a payment that was acknowledged, sent again with its key until it is."""
        auth = self._auth | {"Idempotency-Key": new_id().hex}
        body = {"amount": 1500, "currency": "EUR", "payment_method": "sandbox_ok"}
        made: list[str] = []

        def is_acknowledged() -> bool:
            answer, found = client.ask("POST", self._path, auth, **body)
            assert answer.status in (202, 503), found
            made.extend([found["id"]] if answer.status == 202 else [])
            return answer.status == 202

        wait_until(is_acknowledged, 30, "a payment to be taken")
        return made[0]

    def look(self, client: Client) -> tuple[set[str], bool]:
        """The ids that are shown, and whether the cache had them."""
        answer, found = client.ask("GET", f"{self._path}?per_page=100", self._auth)
        assert answer.status == 200, found
        is_hit = "cache;desc=hit" in (answer.getheader("Server-Timing") or "")
        return {payment["id"] for payment in found["data"]}, is_hit


@pytest.fixture
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    homes = Home(), Home()
    primary = Postgres(homes[0].path, durable=False)
    with ExitStack() as stack:
        for home in homes:
            stack.callback(home.remove)
        stack.callback(primary.remove)
        stack.enter_context(running(primary))
        run_migrations(primary.url)
        standby = standby_of(primary, homes[1].path)
        stack.callback(shutil.rmtree, homes[1].path / "postgres", ignore_errors=True)
        stack.enter_context(running(standby))
        yield primary, standby


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_what_a_failover_loses_is_shown_no_more_and_what_follows_at_once(
    servers: Servers, pair: tuple[Postgres, Postgres]
):
    primary, standby = pair
    house = House(servers, primary, standby)
    with ExitStack() as stack:
        webs = [WebServer(house) for _ in range(2)]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(WebServer.__enter__, webs))
        for web in webs:
            stack.push(web)
        make = Factory(direct := Direct(primary.url, house.forget))
        stack.callback(direct.close)
        owner = make.user()
        shop = Shop(webs, make.store(owner), make.auth(owner))
        first, second = shop.clients
        for client in shop.clients:
            stack.callback(client.close)

        kept = {shop.pay(first) for _ in range(3)}
        at = value(primary, "select pg_current_wal_lsn()::text")
        wait_until(lambda: value(standby, f"select pg_last_wal_replay_lsn() >= '{at}'"), 20, "the standby")
        with superuser(standby) as cursor:
            cursor.execute("alter system set primary_conninfo = ''")
            cursor.execute("select pg_reload_conf()")
        wait_until(
            lambda: not value(standby, "select count(*) from pg_stat_wal_receiver"), 20, "the standby to be cut off"
        )
        lost = {shop.pay(client) for client in shop.clients for _ in range(3)}
        # Both have the lists with them, so that they might show them again.
        for client in (first, second, first, second):
            shown, is_hit = shop.look(client)
            assert shown == kept | lost
        assert is_hit
        newest = int(value(primary, "select pg_current_xact_id()::text"))

        primary.kill()
        assert value(standby, "select pg_promote()")
        # Ids mean other transactions now, and nothing is left of the switch.
        assert int(value(standby, "select pg_current_xact_id()::text")) < newest
        with closing(psycopg2.connect(standby.url)) as connection, connection.cursor() as cursor:
            cursor.execute("select count(*) from cache_switch")
            assert cursor.fetchone() == (0,)

        later = set()
        app = create_app(house.settings())
        with app.app_context():
            is_on = False
            for number in range(40):
                later.add(shop.pay(shop.clients[number % 2]))
                for client in (second, first):
                    assert shop.look(client)[0] == kept | later
                is_on = restore_cache_once() or is_on
                if is_on and shop.look(first)[1] and int(value(standby, "select pg_current_xact_id()::text")) > newest:
                    break
            db.engine.dispose()
        assert is_on
        assert shop.look(first) == (kept | later, True)
