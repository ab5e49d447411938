"""The protocol's parts on real servers, and a Valkey to be stopped, paused and filled."""

from collections.abc import Iterator
from contextlib import closing

import psycopg2
import psycopg2.extensions
import pytest
import redis

from dues.reads.freshness.backend import FreshCache
from local.valkey import Valkey
from tests.servers import Servers, running


@pytest.fixture(scope="module")
def modules_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with running(server := Valkey(tmp_path_factory.mktemp("valkey"), durable=False)):
        yield server


@pytest.fixture
def valkey(modules_valkey: Valkey) -> Valkey:
    """A Valkey that is the test's own to do with as it likes: empty, with the settings that it was started with."""
    if not modules_valkey.is_running:
        modules_valkey.start()
    with closing(redis.Redis.from_url(modules_valkey.url)) as client:
        for name in ("maxmemory", "min-replicas-to-write"):
            client.config_set(name, 0)
        client.flushall()
        client.script_flush()
        client.config_resetstat()
    return modules_valkey


@pytest.fixture
def operator(valkey: Valkey) -> Iterator[redis.Redis]:
    """Somebody at that Valkey's command line."""
    with closing(redis.Redis.from_url(valkey.url, decode_responses=True)) as client:
        yield client


@pytest.fixture
def fresh(servers: Servers, clean: None, valkey: Valkey) -> Iterator[FreshCache]:
    """A process's cache, on the tests' database (whose switch is on) and a Valkey of the test's own."""
    cache = FreshCache(servers.settings(), valkey.url, "t:", life_s=60)
    turn_on(cache)
    yield cache
    cache.stop()
    turn_on(cache)


def turn_on(cache: FreshCache) -> None:
    row = cache.switch.read()
    if not (row and row.on):
        cache.switch.settle(row.generation if row else None)
        row = cache.switch.read()
        assert row
        assert cache.switch.open(row.generation)


def connect(servers: Servers) -> psycopg2.extensions.connection:
    return psycopg2.connect(servers.database_url.replace("postgresql+psycopg2:", "postgresql:"))
