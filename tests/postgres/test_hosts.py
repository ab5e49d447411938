"""DATABASE_URL with several hosts, the first of which is gone, as after every failover: whoever connects finds the one
that is there, at once."""

import asyncio
import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest
from psycopg2.extensions import parse_dsn
from sqlalchemy import make_url

from api.app import create_app
from config import Settings
from dues.postgres import connect, db
from dues.postgres.aio import LoopPostgres
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
