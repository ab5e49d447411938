"""A PostgreSQL that says nothing any more: whoever waits for it is told so in time, and its threads come back."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Timer
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import make_url

from api import system
from api.app import create_app
from config import Settings
from dues.errors import Unavailable
from dues.postgres import connect, db, watchdog
from dues.postgres.aio import LoopPostgres
from dues.postgres.pool import connection_of
from dues.redis.client import redis_client
from tests.factory import Factory
from tests.reads.freshness.conftest import connect as connect_directly
from tests.servers import Servers, wait_until
from tests.silence import Network

THREADS = 4
KEEP_ALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 2, "TCP_USER_TIMEOUT": 10_000}


@pytest.fixture
def network(servers: Servers) -> Iterator[Network]:
    with closing(connect_directly(servers)) as connection:
        host, port = connection.info.host, connection.info.port
    with Network(f"{host}/.s.PGSQL.{port}") as network:
        yield network


@pytest.fixture
def settings(servers: Servers, network: Network) -> Settings:
    url = make_url(servers.database_url).set(host="127.0.0.1", port=network.port, query={})
    changes = {"db_statement_timeout_s": 0.5, "db_pool_size": THREADS, "db_pool_timeout_s": 1.0}
    return servers.settings(database_url=url.render_as_string(hide_password=False), **changes)


@pytest.fixture
def distant(settings: Settings, make: Factory) -> Iterator[Flask]:
    """An application that reaches PostgreSQL over the network."""
    app = create_app(settings)
    yield app
    with app.app_context():
        db.engine.dispose()


def test_writes_are_refused_in_time_and_threads_come_back(distant: Flask, network: Network, make: Factory) -> None:
    auth = make.auth(make.user())

    def rename(name: str) -> int:
        return distant.test_client().patch("/v1/me", json={"name": name}, headers=auth).status_code

    with ThreadPoolExecutor(THREADS) as threads:
        assert list(threads.map(rename, ["Ada"] * THREADS)) == [200] * THREADS
        network.silent = True
        silenced = list(threads.map(rename, ["Bob"] * THREADS))
        network.silent = False
        assert silenced == [503] * THREADS
        # What was on its way arrives now: PostgreSQL runs the statements of clients that have given up, which hold the
        # user's row until it finds that their connections are closed. A write may be refused once more.
        wait_until(lambda: list(threads.map(rename, ["Cyd"] * THREADS)) == [200] * THREADS, 10, "writes to go on")


def test_reads_on_the_event_loop_are_given_up_in_time(settings: Settings, network: Network) -> None:
    async def scenario() -> None:
        postgres = LoopPostgres(settings)
        assert await postgres.fetch_row("select 1", {}) == (1,)
        network.silent = True
        with pytest.raises(Unavailable, match="in time"):
            await postgres.fetch_row("select 1", {})
        network.silent = False
        assert await postgres.fetch_row("select 1", {}) == (1,)
        postgres.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("last", ["standing_of", "wrong_settings"])
def test_operators_are_told_in_time_whenever_the_silence_begins(
    distant: Flask, network: Network, last: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL has let the probe in, and freezes before it answers the first or the last of its questions."""
    monkeypatch.setattr(watchdog, "GRACE_S", 0.2)
    asks = getattr(system, last)

    def freeze(*arguments: Any, **settings: str) -> Any:
        network.silent = True
        return asks(*arguments, **settings)

    monkeypatch.setattr(system, last, freeze)
    at_last = Timer(30, lambda: setattr(network, "silent", False))
    at_last.start()
    began = time.monotonic()
    try:
        answer = distant.test_client().get("/readyz")
    finally:
        at_last.cancel()
    assert time.monotonic() - began < 15
    assert (answer.status_code, (answer.json or {})["missing"]) == (503, ["database"])


def options_of(connected: socket.socket) -> dict[str, int]:
    assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return {name: connected.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEP_ALIVE}


def test_every_connection_to_postgresql_notices_a_network_that_is_gone(distant: Flask, settings: Settings) -> None:
    """What is not acknowledged, or not answered to a keep-alive, ends the connection: the kernel keeps the time."""
    with distant.app_context(), db.engine.connect() as pooled, closing(connect(settings, "apart", 2)) as apart:
        for driver in (connection_of(pooled.connection.info).driver, apart):
            with socket.socket(fileno=os.dup(driver.fileno())) as connected:
                assert options_of(connected) == KEEP_ALIVE


def test_what_only_listens_to_redis_notices_that_it_is_gone() -> None:
    """It never sends anything, so nothing of its own is ever unacknowledged."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = redis_client(f"redis://127.0.0.1:{server.getsockname()[1]}", 1.0)
        connection = client.connection_pool.connection_class(**client.connection_pool.connection_kwargs)
        with connection._connect() as connected:
            assert options_of(connected) == KEEP_ALIVE
    assert redis_client("unix:///none", 1.0).connection_pool.connection_kwargs["path"] == "/none"
