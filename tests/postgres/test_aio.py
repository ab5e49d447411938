"""PostgreSQL on an event loop: rows, refusals, lost connections, and several statements at once."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from typing import Any

import msgspec
import psycopg2.extensions
import pytest

from config import Settings
from dues.errors import Unavailable
from dues.postgres.aio import LoopPostgres, Lost
from tests.reads.freshness.conftest import connect
from tests.servers import Servers

Scenario = Callable[[LoopPostgres], Awaitable[None]]


@pytest.fixture
def settings(servers: Servers) -> Settings:
    return Settings(database_url=servers.database_url, redis_url="redis://unused", secret_key="k" * 32)


@pytest.fixture
def operator(servers: Servers) -> Iterator[psycopg2.extensions.connection]:
    with closing(connect(servers)) as connection:
        connection.autocommit = True
        yield connection


def run(settings: Settings, scenario: Scenario) -> None:
    async def whole() -> None:
        postgres = LoopPostgres(settings)
        try:
            await asyncio.wait_for(scenario(postgres), 20)
        finally:
            postgres.close()

    asyncio.run(whole())


async def value(postgres: LoopPostgres, sql: str, **values: object) -> Any:
    row = await postgres.fetch_row(sql, values)
    return row and row[0]


@pytest.mark.parametrize("prepare", [True, False])
def test_rows_values_and_sessions_are_those_of_every_other_connection(settings: Settings, prepare: bool):
    async def scenario(postgres: LoopPostgres) -> None:
        for _ in range(5):
            assert await value(postgres, "select %(text)s::text || '%%'", text="50 % o'clock ☺") == "50 % o'clock ☺%"
        assert await postgres.fetch_row("select 1 where false", {}) is None
        assert await value(postgres, "show timezone") == "UTC"
        # Else it belongs to the role.
        assert await value(postgres, "show statement_timeout") == ("15s" if prepare else "0")
        big = await value(postgres, "select repeat('x', %(size)s)", size=3_000_000)
        assert len(big) == 3_000_000
        prepared = await value(postgres, "select count(*) from pg_prepared_statements")
        assert (prepared > 0) is prepare

    run(msgspec.structs.replace(settings, db_prepare=prepare), scenario)


def test_statements_run_beside_one_another(settings: Settings):
    async def scenario(postgres: LoopPostgres) -> None:
        began = asyncio.get_running_loop().time()
        pids = await asyncio.gather(*(value(postgres, "select pg_backend_pid() from pg_sleep(1)") for _ in range(5)))
        assert asyncio.get_running_loop().time() - began < 5
        assert len(set(pids)) == 5
        assert await value(postgres, "select pg_backend_pid()") in pids, "connections are kept"

    run(settings, scenario)


def test_what_takes_too_long_is_refused_and_the_next_goes_on(settings: Settings):
    async def scenario(postgres: LoopPostgres) -> None:
        with pytest.raises(Unavailable):
            await value(postgres, "select pg_sleep(10)")
        assert await value(postgres, "select 1") == 1

    run(msgspec.structs.replace(settings, db_statement_timeout_s=0.2), scenario)


def test_a_wrong_statement_and_a_lost_connection_are_both_left_to_others(
    settings: Settings, operator: psycopg2.extensions.connection
):
    async def scenario(postgres: LoopPostgres) -> None:
        with pytest.raises(Lost):
            await value(postgres, "select nothing")
        pid = await value(postgres, "select pg_backend_pid()")
        sleeping = asyncio.create_task(value(postgres, "select pg_sleep(10)"))
        await asyncio.sleep(0.3)
        with operator.cursor() as cursor:
            cursor.execute("select pg_terminate_backend(%s)", (pid,))
        with pytest.raises(Lost):
            await sleeping
        idle = await value(postgres, "select pg_backend_pid()")
        with operator.cursor() as cursor:
            cursor.execute("select pg_terminate_backend(%s, 5000)", (idle,))
        await asyncio.sleep(0.3)
        assert await value(postgres, "select 1") == 1

    run(settings, scenario)


def test_nobody_listening_is_lost_at_once(settings: Settings):
    async def scenario(postgres: LoopPostgres) -> None:
        with pytest.raises(Lost):
            await value(postgres, "select 1")

    run(msgspec.structs.replace(settings, database_url="postgresql://dues@127.0.0.1:1/dues"), scenario)


def test_who_goes_away_leaves_no_half_read_connection(settings: Settings):
    async def scenario(postgres: LoopPostgres) -> None:
        task = asyncio.create_task(value(postgres, "select 'first' from pg_sleep(0.5)"))
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        for number in range(5):
            assert await value(postgres, "select %(n)s::int", n=number) == number

    run(settings, scenario)
