"""DATABASE_URL with several hosts, the first of which is gone, as after every failover: whoever connects finds the one
that is there, at once."""

import asyncio
import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import count
from urllib.parse import parse_qs, urlsplit

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from api.app import create_app
from config import Settings
from dues.postgres import connect, db, failure_of
from dues.postgres.aio import LoopPostgres, Lost
from dues.postgres.sessions import WrongSession, check, hosts_of
from local.ports import free_port
from tests.factory import Factory
from tests.reads.freshness.conftest import connect as operator
from tests.servers import Servers
from tests.silence import Network
from tests.webserver import WebServer


@pytest.fixture
def hosts(servers: Servers) -> Iterator[str]:
    """A URL of two addresses: nobody listens on the first."""
    url = make_url(servers.database_url)
    with closing(operator(servers)) as connection:
        if not connection.info.host.startswith("/"):
            pytest.skip("PostgreSQL is not reached by a Unix socket here")
        socket = f"{connection.info.host}/.s.PGSQL.{connection.info.port}"
    with Network(socket) as network:
        where = f"host=127.0.0.1,127.0.0.1&port={free_port()},{network.port}&target_session_attrs=read-write"
        yield f"postgresql://{url.username}@/{url.database}?{where}"


@pytest.mark.parametrize("named_in", ["options", "their place"])
def test_every_way_to_connect_finds_the_host_that_is_there(servers: Servers, hosts: str, named_in: str):
    if named_in == "their place":
        parts = parse_dsn(hosts)
        places = map(":".join, zip(parts["host"].split(","), parts["port"].split(","), strict=True))
        hosts = f"postgresql://{parts['user']}@{','.join(places)}/{parts['dbname']}?target_session_attrs=read-write"
    settings = servers.settings(database_url=hosts)
    with closing(connect(settings)) as apart, apart.cursor() as cursor:
        cursor.execute("select 1")
        assert cursor.fetchone() == (1,)
    app = create_app(settings)
    with app.app_context():
        assert app.test_client().get("/readyz").json == {"status": "ready"}
        assert app.test_cli_runner().invoke(args=["migrate"]).exit_code == 0
        db.engine.dispose()

    async def on_the_loop() -> list[int]:
        postgres = LoopPostgres(settings)
        try:
            return [(await postgres.fetch_row("select %(n)s::int", {"n": n}) or (0,))[0] for n in (1, 2)]
        finally:
            postgres.close()

    began = time.monotonic()
    assert asyncio.run(on_the_loop()) == [1, 2]
    # Once for all addresses it may try is five seconds; that would mean that one was waited for.
    assert time.monotonic() - began < 4


class Silent:
    """A host whose machine has stopped: connections are taken, by its kernel, and nothing is answered on them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]

    def asked(self) -> int:
        """How often somebody has connected since the last call."""
        with suppress(BlockingIOError):
            for number in count():  # noqa: B007
                self._listener.accept()[0].close()
        return number

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def silent(servers: Servers, hosts: str) -> Iterator[tuple[Silent, str]]:
    """A host that says nothing, and a URL with it before the one that is there."""
    with closing(Silent()) as found:
        (ports,) = parse_qs(urlsplit(hosts).query)["port"]
        yield found, hosts.replace(ports, f"{found.port},{ports.split(',')[1]}")


def test_only_the_first_waits_for_a_host_that_is_silent(servers: Servers, silent: tuple[Silent, str]):
    """Its connections, the pool's and the loop's: whoever comes later begins with the host that answered."""
    host, url = silent
    settings = servers.settings(database_url=url)
    connect(settings, timeout_s=2).close()
    assert host.asked() == 1
    connect(settings, timeout_s=2).close()
    app = create_app(settings)
    with app.app_context():
        with db.engine.connect() as one, db.engine.connect() as other:
            assert one.exec_driver_sql("select 1").scalar() == other.exec_driver_sql("select 1").scalar() == 1
        db.engine.dispose()

    async def on_the_loop() -> object:
        with closing(LoopPostgres(settings)) as postgres:
            return await postgres.fetch_row("select 1", {})

    assert asyncio.run(on_the_loop()) == (1,)
    assert host.asked() == 0


def test_the_host_that_a_connection_was_lost_to_is_tried_last(servers: Servers, hosts: str):
    """It may have gone silent, and would be waited for."""
    url = make_url(hosts)
    ports = str(url.query["port"]).split(",")
    settings = servers.settings(database_url=hosts)
    app = create_app(settings)
    order = hosts_of(hosts)
    with app.app_context():
        with db.engine.connect() as connection:
            pid = connection.exec_driver_sql("select pg_backend_pid()").scalar()
        assert order.arguments()["port"].split(",") == ports[::-1]
        with servers.direct.cursor() as cursor:
            cursor.execute("select pg_terminate_backend(%s, 5000)", (pid,))
        with pytest.raises(DBAPIError), db.engine.connect() as connection:
            connection.exec_driver_sql("select 1")
        assert order.arguments()["port"].split(",") == ports
        db.engine.dispose()

    async def on_the_loop() -> None:
        with closing(LoopPostgres(settings)) as postgres:
            row = await postgres.fetch_row("select pg_backend_pid()", {})
            assert order.arguments()["port"].split(",") == ports[::-1]
            with pytest.raises(Lost):
                await postgres.fetch_row("select pg_terminate_backend(%(pid)s)", {"pid": (row or (0,))[0]})
            assert order.arguments()["port"].split(",") == ports

    asyncio.run(on_the_loop())


class Standby:
    """A driver's connection, as far as it is looked at when it is opened."""

    server_version = 180000

    def __init__(self) -> None:
        self.is_closed = False

    def get_parameter_status(self, name: str) -> str:
        return {"server_encoding": "UTF8", "TimeZone": "UTC", "in_hot_standby": "on"}[name]

    def close(self) -> None:
        self.is_closed = True


def test_a_standby_is_not_taken_for_the_primary():
    """By a proxy, a name or a floating address, while PostgreSQL fails over: it may lack what was acknowledged."""
    check(Standby(), is_primary=False)
    standby = Standby()
    with pytest.raises(WrongSession, match="is a standby") as refused:
        check(standby, is_primary=True)
    assert standby.is_closed
    assert failure_of(refused.value)


@pytest.mark.parametrize("misses", [16, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_web_server_answers_misses_at_once(servers: Servers, hosts: str, make: Factory, misses: int):
    """16 at a time of reads that nobody has asked for before, the first of them each on a connection of its own."""
    store = make.store()
    make.package(store)
    with WebServer(servers, DATABASE_URL=hosts) as web, ThreadPoolExecutor(16) as pool:

        def get(number: int) -> tuple[int, float]:
            page, size = divmod(number, 100)
            path = f"/v1/stores/{store.id}/packages?page={page + 1}&per_page={size + 1}"
            began = time.monotonic()
            with urllib.request.urlopen(web.url + path, timeout=20) as answer:
                return len(json.load(answer)["data"]), time.monotonic() - began

        found, took = zip(*pool.map(get, range(misses)), strict=True)
        said = web.log.read_text()
    assert list(found) == [1] * min(misses, 100) + [0] * (misses - 100)
    assert "Traceback" not in said
    took_ms = [each * 1000 for each in sorted(took)]
    print(f"{misses:,} misses: p50 {took_ms[misses // 2]:.0f} ms, p99 {took_ms[misses * 99 // 100]:.0f} ms")


def test_where_no_host_is_there_it_is_said_so(servers: Servers):
    dead = f"postgresql://nobody@/none?host=127.0.0.1,127.0.0.1&port={free_port()},{free_port()}"
    with pytest.raises(psycopg2.OperationalError, match="Connection refused"):
        connect(Settings(database_url=dead, redis_url="redis://unused", secret_key="k" * 32))
    answer = create_app(servers.settings(database_url=dead)).test_client().get("/readyz?ignore=redis")
    assert answer.json
    assert answer.json["missing"] == ["database"]
