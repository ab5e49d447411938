"""Who computes, who waits, and what is kept."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2.extensions
import pytest
import redis

from dues.reads.freshness.backend import FreshCache
from dues.reads.freshness.reader import Computed, Reader, Result
from local.valkey import Valkey
from tests.reads.freshness.conftest import connect
from tests.servers import Servers, wait_until

Postgres = psycopg2.extensions.connection


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


@pytest.fixture(autouse=True)
def _tag(fresh: FreshCache, postgres: Postgres) -> None:
    """The tag `a`, with a floor below whatever other tests of this PostgreSQL have running."""
    wait_until(lambda: fresh.reader.read("another", ["a"], Statement(postgres)).proof, what="the tag's floor")


def in_threads(count: int, call: Callable[[], Any]) -> tuple[list[threading.Thread], list[Any]]:
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(call())) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads, results


def test_the_second_read_is_a_hit_until_somebody_touches(fresh: FreshCache, statement: Statement) -> None:
    first = fresh.reader.read("k", ["a"], statement)
    assert (first.payload, first.hit) == (b"answer 1", False)
    second = fresh.reader.read("k", ["a"], statement)
    assert second == Result(b"answer 1", True, first.proof, second.expires_at)
    assert abs(second.expires_at - first.expires_at) < 0.01

    row = fresh.switch.read()
    fresh.writer.touch(["a"], fresh.switch.new_xid(), row)

    assert fresh.reader.read("k", ["a"], statement).payload == b"answer 2"
    assert fresh.reader.read("k", ["a"], statement).hit


def test_a_touch_whose_transaction_runs_keeps_answers_out_until_it_ends(
    fresh: FreshCache, statement: Statement, servers: Servers
) -> None:
    fresh.reader.read("k", ["a"], statement)
    with closing(connect(servers)) as writing, writing.cursor() as cursor:
        cursor.execute("select pg_current_xact_id()::text")
        (xid,) = cursor.fetchone() or ("",)
        fresh.writer.touch(["a"], xid, fresh.switch.read())
        results = [fresh.reader.read("k", ["a"], statement) for _ in range(2)]
        assert [(r.hit, r.proof) for r in results] == [(False, None), (False, None)]
        writing.rollback()

    assert fresh.reader.read("k", ["a"], statement).proof
    assert fresh.reader.read("k", ["a"], statement).hit


def test_a_writer_from_before_a_flush_keeps_answers_out(
    fresh: FreshCache, statement: Statement, servers: Servers, operator: redis.Redis
) -> None:
    """It touched what is gone now, and its id is above what snapshots name: the base must be above it all the same."""
    operator.flushall()
    with closing(connect(servers)) as writing, writing.cursor() as cursor:
        cursor.execute("select pg_current_xact_id()::text")
        (xid,) = cursor.fetchone() or ("",)
        fresh.writer.touch(["a"], xid, fresh.switch.read())

        assert fresh.reader.read("k", ["a"], statement).proof is None

        writing.rollback()
    wait_until(lambda: fresh.reader.read("k", ["a"], statement).proof)


def test_two_hundred_at_once_on_a_cold_key_run_one_statement(fresh: FreshCache, statement: Statement) -> None:
    statement.may_end.clear()
    threads, results = in_threads(200, lambda: fresh.reader.read("k", ["a"], statement))
    wait_until(lambda: statement.running == 1, what="the statement")
    statement.may_end.set()
    for thread in threads:
        thread.join(10)

    assert statement.runs == 1
    assert {result.payload for result in results} == {b"answer 1"}
    assert len(results) == 200


def test_processes_wait_for_one_another(
    fresh: FreshCache, statement: Statement, servers: Servers, valkey: Valkey
) -> None:
    others = [FreshCache(servers.database_url, valkey.url, "t:", 60) for _ in range(3)]
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


def test_who_comes_while_a_statement_runs_gets_none_that_began_before(statement: Statement) -> None:
    """Without Redis: nothing can vouch for a running statement's answer, so it is shared with none who came later."""
    reader = Reader(None, lambda: None, lambda: "", 60)  # type: ignore[arg-type]
    statement.may_end.clear()
    first, early = in_threads(1, lambda: reader.read("k", ["a"], statement))
    wait_until(lambda: statement.running == 1, what="the first statement")
    later, late = in_threads(5, lambda: reader.read("k", ["a"], statement))
    wait_until(lambda: reader._boarding, what="those who came later")
    time.sleep(0.05)
    statement.may_end.set()
    for thread in first + later:
        thread.join(10)

    assert [r.payload for r in early] == [b"answer 1"]
    assert b"answer 1" not in {r.payload for r in late}
    assert statement.runs <= 3


def test_when_the_one_who_computes_fails_the_others_compute(fresh: FreshCache, statement: Statement) -> None:
    def fails() -> Computed:
        raise LookupError("nothing there")

    with pytest.raises(LookupError):
        fresh.reader.read("k", ["a"], fails)
    started = time.monotonic()
    assert fresh.reader.read("k", ["a"], statement).payload == b"answer 1"
    assert time.monotonic() - started < 1


def test_an_answer_may_be_kept_for_less_or_not_at_all(fresh: FreshCache, postgres: Postgres) -> None:
    never, shortly = Statement(postgres, life_s=0), Statement(postgres, life_s=0.05)
    for _ in range(2):
        assert fresh.reader.read("never", ["a"], never).proof is None
    fresh.reader.read("shortly", ["a"], shortly)
    time.sleep(0.06)
    fresh.reader.read("shortly", ["a"], shortly)

    assert (never.runs, shortly.runs) == (2, 2)


def test_reads_go_on_without_redis_and_leave_it_alone_for_a_while(
    fresh: FreshCache, statement: Statement, valkey: Valkey
) -> None:
    fresh.reader.read("k", ["a"], statement)
    valkey.stop()
    assert [fresh.reader.read("k", ["a"], statement).payload for _ in range(3)] == [
        b"answer 2",
        b"answer 3",
        b"answer 4",
    ]
