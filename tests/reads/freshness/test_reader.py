"""Who computes, who waits, and what is kept."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg2.extensions
import pytest
import redis
import time_machine

from dues.reads.freshness.backend import FreshCache
from dues.reads.freshness.journal import ALL
from dues.reads.freshness.read_protocol import Computed, Result
from local.valkey import Valkey
from tests.reads.freshness.conftest import connect
from tests.reads.freshness.drivers import DRIVERS, Driver, LoopDriver
from tests.servers import Servers, wait_until

pytestmark = pytest.mark.one_server("there is no cache")

Postgres = psycopg2.extensions.connection
# Of what tests/reads/freshness/conftest.py keeps.
LIFE_S = 60
Read = Callable[[str, list[str], Callable[[], Computed]], Result]


@pytest.fixture
def postgres(servers: Servers) -> Iterator[Postgres]:
    with closing(connect(servers)) as connection:
        connection.autocommit = True
        yield connection


class Statement:
    """A statement to be computed by; counts itself, and can be held up."""

    def __init__(self, postgres: Postgres, life_s: float | None = None) -> None:
        self._postgres, self._life_s = postgres, life_s
        self.runs, self.running = 0, 0
        self.may_end = threading.Event()
        self.may_end.set()
        self._lock = threading.Lock()

    def __call__(self) -> Computed:
        with self._lock:
            self.runs += 1
            run = self.runs
            with self._postgres.cursor() as cursor:
                cursor.execute("select pg_current_snapshot()::text")
                (snapshot,) = cursor.fetchone() or ("",)
        self.running += 1
        assert self.may_end.wait(10)
        self.running -= 1
        return Computed(f"answer {run}".encode(), snapshot, self._life_s)


@pytest.fixture
def statement(postgres: Postgres) -> Statement:
    return Statement(postgres)


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, fresh: FreshCache, valkey: Valkey) -> Iterator[Driver]:
    with closing(DRIVERS[request.param](fresh, valkey.url, fresh.poller.generation)) as driver:
        yield driver


@pytest.fixture
def read(driver: Driver, postgres: Postgres) -> Read:
    """A reader, and the tag `a` with a floor below whatever other tests of this PostgreSQL have running."""
    wait_until(lambda: driver.read("another", ["a"], Statement(postgres)).validator, what="the tag's floor")
    return driver.read


def in_threads(count: int, call: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


def test_the_second_read_is_a_hit_until_somebody_touches(read: Read, fresh: FreshCache, statement: Statement) -> None:
    began = time.monotonic()
    first = read("k", ["a"], statement)
    assert (first.payload, first.hit) == (b"answer 1", False)
    # However far the clock on the wall is out: what is left of an answer's life is counted down.
    with time_machine.travel(datetime.now(UTC) + timedelta(days=1), tick=False):
        second = read("k", ["a"], statement)
    assert second == Result(b"answer 1", True, first.validator, second.expires_at)
    for result in (first, second):
        assert began < result.expires_at <= time.monotonic() + LIFE_S

    row = fresh.switch.read()
    fresh.writer.touch(["a"], fresh.switch.new_xid(), row)

    assert read("k", ["a"], statement).payload == b"answer 2"
    assert read("k", ["a"], statement).hit


def test_a_touch_whose_transaction_runs_keeps_answers_out_until_it_ends(
    read: Read, fresh: FreshCache, statement: Statement, servers: Servers
) -> None:
    read("k", ["a"], statement)
    with closing(connect(servers)) as writing, writing.cursor() as cursor:
        cursor.execute("select pg_current_xact_id()::text")
        (xid,) = cursor.fetchone() or ("",)
        fresh.writer.touch(["a"], xid, fresh.switch.read())
        results = [read("k", ["a"], statement) for _ in range(2)]
        assert [(r.hit, r.validator) for r in results] == [(False, None), (False, None)]
        writing.rollback()

    assert read("k", ["a"], statement).validator
    assert read("k", ["a"], statement).hit


def test_a_writer_from_before_a_flush_keeps_answers_out(
    read: Read, fresh: FreshCache, statement: Statement, servers: Servers, operator: redis.Redis
) -> None:
    """It touched what is gone now, and its id is above what snapshots name: the base must be above it all the same."""
    operator.flushall()
    with closing(connect(servers)) as writing, writing.cursor() as cursor:
        cursor.execute("select pg_current_xact_id()::text")
        (xid,) = cursor.fetchone() or ("",)
        fresh.writer.touch(["a"], xid, fresh.switch.read())

        assert read("k", ["a"], statement).validator is None

        writing.rollback()
    wait_until(lambda: read("k", ["a"], statement).validator)


def test_two_hundred_at_once_on_a_cold_key_run_one_statement(
    read: Read, fresh: FreshCache, statement: Statement
) -> None:
    statement.may_end.clear()
    threads, results = in_threads(200, lambda: read("k", ["a"], statement))
    wait_until(lambda: statement.running == 1, what="the statement")
    statement.may_end.set()
    for thread in threads:
        thread.join(10)

    assert statement.runs == 1
    assert {result.payload for result in results} == {b"answer 1"}
    assert len(results) == 200


def test_processes_wait_for_one_another(
    read: Read, fresh: FreshCache, statement: Statement, servers: Servers, valkey: Valkey
) -> None:
    others = [FreshCache(servers.settings(), valkey.url, "t:", 60) for _ in range(3)]
    statement.may_end.clear()
    caches = [fresh, *others]
    threads, results = in_threads(4, lambda: caches.pop().reader.read("k", ["a"], statement))
    wait_until(lambda: statement.running >= 1, what="the statement")
    time.sleep(0.05)
    statement.may_end.set()
    for thread in threads:
        thread.join(10)

    assert statement.runs == 1
    assert sorted(result.hit for result in results) == [False, True, True, True]
    for other in others:
        other.stop()


@pytest.fixture(params=DRIVERS)
def apart(request: pytest.FixtureRequest, fresh: FreshCache, valkey: Valkey) -> Iterator[Driver]:
    """A driver whose cache is off: nothing can vouch for the answer of a running statement."""
    with closing(DRIVERS[request.param](fresh, valkey.url, lambda: None)) as driver:
        yield driver


def test_a_read_shares_no_statement_that_began_before_it(apart: Driver, statement: Statement) -> None:
    statement.may_end.clear()
    first, early = in_threads(1, lambda: apart.read("k", ["a"], statement))
    wait_until(lambda: statement.running == 1, what="the first statement")
    later, late = in_threads(5, lambda: apart.read("k", ["a"], statement))
    wait_until(lambda: apart.protocol._next_round, what="those who came later")
    time.sleep(0.3)
    statement.may_end.set()
    for thread in first + later:
        thread.join(10)

    assert [r.payload for r in early] == [b"answer 1"]
    assert len(late) == 5
    assert b"answer 1" not in {r.payload for r in late}
    assert statement.runs <= 3


def test_what_computing_raises_is_raised_for_all_who_share_it(apart: Driver, statement: Statement) -> None:
    failures: list[int] = []

    def fails() -> Computed:
        failures.append(1)
        raise LookupError("nothing there")

    def failing_read() -> Exception | None:
        try:
            apart.read("k", ["a"], fails)
        except LookupError as error:
            return error
        return None

    statement.may_end.clear()
    first, early = in_threads(1, lambda: apart.read("k", ["a"], statement))
    wait_until(lambda: statement.running == 1, what="the first statement")
    later, late = in_threads(5, failing_read)
    wait_until(lambda: apart.protocol._next_round, what="those who came later")
    time.sleep(0.3)
    statement.may_end.set()
    for thread in first + later:
        thread.join(10)

    assert [r.payload for r in early] == [b"answer 1"]
    assert [type(error) for error in late] == [LookupError] * 5
    assert len(failures) <= 3
    assert not apart.protocol._in_flight
    assert not apart.protocol._next_round


def test_when_a_client_goes_away_those_who_share_its_read_are_answered(fresh: FreshCache, valkey: Valkey) -> None:
    may_end = threading.Event()

    def held_up() -> Computed:
        assert may_end.wait(10)
        return Computed(b"late", "10:10:")

    with closing(LoopDriver(fresh, valkey.url, lambda: None)) as loop:
        ahead = loop.start("k", ["a"], held_up)
        wait_until(lambda: loop.protocol._in_flight)
        gone = loop.start("k", ["a"], held_up)
        wait_until(lambda: loop.protocol._next_round)
        sharing = [loop.start("k", ["a"], lambda: Computed(b"answer", "10:10:")) for _ in range(3)]
        time.sleep(0.05)
        gone.cancel()
        assert [read.result(5).payload for read in sharing] == [b"answer"] * 3
        may_end.set()
        assert ahead.result(5).payload == b"late"
        assert not loop.protocol._in_flight


def test_when_the_one_who_computes_fails_the_others_compute(
    read: Read, fresh: FreshCache, statement: Statement
) -> None:
    def fails() -> Computed:
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        read("k", ["a"], fails)
    started = time.monotonic()
    assert read("k", ["a"], statement).payload == b"answer 1"
    # For two seconds one waits for another process that computes.
    assert time.monotonic() - started < 1.9


def test_an_answer_may_be_kept_for_less_or_not_at_all(read: Read, fresh: FreshCache, postgres: Postgres) -> None:
    never, shortly = Statement(postgres, life_s=0), Statement(postgres, life_s=0.05)
    for _ in range(2):
        assert read("never", ["a"], never).validator is None
    read("shortly", ["a"], shortly)
    time.sleep(0.06)
    read("shortly", ["a"], shortly)

    assert (never.runs, shortly.runs) == (2, 2)


def test_an_answer_ends_in_its_time_though_redis_stood_still_when_it_was_kept(
    read: Read, fresh: FreshCache, postgres: Postgres, valkey: Valkey
) -> None:
    statement = Statement(postgres, life_s=1)

    def stop_redis_and_compute() -> Computed:
        os.kill(valkey.pid, signal.SIGSTOP)
        return statement()

    try:
        assert read("k", ["a"], stop_redis_and_compute).validator
        time.sleep(1.05)
    finally:
        os.kill(valkey.pid, signal.SIGCONT)

    assert read("k", ["a"], statement).payload == b"answer 2"


def test_what_there_was_news_of_is_kept_anew_and_for_no_longer_than_it_may(
    fresh: FreshCache, postgres: Postgres
) -> None:
    statement = Statement(postgres, life_s=30)

    def follow() -> Result:
        return fresh.reader.read("k", ["a"], statement, follows=True)

    wait_until(lambda: follow().validator, what="the journal's floor")
    generation = fresh.poller.generation()
    assert generation is not None
    fresh.store.touch(generation, ["b"], fresh.switch.new_xid(), ALL)
    anew, again = follow(), follow()

    assert (anew.hit, again.hit, again.payload) == (False, True, anew.payload)
    # Redis counts in milliseconds.
    assert time.monotonic() + 20 < again.expires_at <= anew.expires_at + 0.002


def test_what_somebody_else_has_kept_there_is_no_answer_that_follows_the_journal(
    fresh: FreshCache, postgres: Postgres
) -> None:
    statement = Statement(postgres)
    wait_until(lambda: fresh.reader.read("k", ["a"], statement).validator, what="the base")
    wait_until(lambda: fresh.reader.read("k", ["a"], statement, follows=True).validator, what="an answer that is kept")
    assert fresh.reader.read("k", ["a"], statement, follows=True).hit


def test_reads_go_on_without_redis_and_leave_it_alone_for_a_while(
    read: Read, fresh: FreshCache, statement: Statement, valkey: Valkey
) -> None:
    read("k", ["a"], statement)
    valkey.stop()
    assert [read("k", ["a"], statement).payload for _ in range(3)] == [
        b"answer 2",
        b"answer 3",
        b"answer 4",
    ]
