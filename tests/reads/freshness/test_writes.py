"""Units of work and a Redis in every state: a write is taken, and no answer from before it is given after it."""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import redis
from flask import Flask
from sqlalchemy import text

from dues.app import create_base
from dues.postgres import db, fetch_row, transaction, unit_of_work
from dues.postgres.statement_stats import counting_statements
from dues.reads.freshness import Computed, Result, fresh_cache, read, restore_cache_once
from local.valkey import Valkey
from tests.reads.freshness.conftest import turn_on
from tests.servers import Servers, wait_until

pytestmark = pytest.mark.one_server("there is no cache")


@pytest.fixture
def base(servers: Servers, clean: None, valkey: Valkey) -> Iterator[Flask]:
    """An application without routes, on a Valkey of the test's own, with a table to write to."""
    app = create_base(servers.settings(cache_redis_url=valkey.url))
    with app.app_context():
        with transaction() as session:
            session.execute(text("create table notes(id int primary key, body text)"))
            session.execute(text("insert into notes values (1, 'old')"))
        turn_on(fresh_cache())
        # Until its tag's floor is below whatever other tests of this PostgreSQL have running.
        wait_until(lambda: read_note().validator)
        yield app
        with transaction() as session:
            session.execute(text("drop table notes"))
        turn_on(fresh_cache())
        fresh_cache().stop()
        db.engine.dispose()


def write(body: str, *tags: str) -> None:
    with transaction() as session:
        session.execute(text("update notes set body = :body"), {"body": body})
        unit_of_work().tags.update(tags or ("note:1",))


def read_note() -> Result:
    def compute() -> Computed:
        row = fetch_row("select body, pg_current_snapshot()::text from notes where id = %(id)s", {"id": 1})
        assert row
        return Computed(row[0].encode(), row[1])

    return read("note 1", ["note:1"], compute)


def is_on() -> bool:
    row = fresh_cache().switch.read()
    return bool(row and row.on)


def test_what_a_unit_of_work_wrote_is_read_next(base: Flask) -> None:
    read_note()
    assert read_note().hit
    write("new")
    assert read_note().payload == b"new"
    assert read_note().hit


def test_a_touch_costs_one_statement_and_one_call(base: Flask, operator: redis.Redis) -> None:
    write("warm")
    operator.config_resetstat()
    with counting_statements() as statements:
        write("new", "note:1", "a", "b", "c", "d")

    calls = operator.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == 1
    assert statements.count == 2, "the write's own, and the touch's"


def write_and_fail(then: Callable[[], object] = lambda: None) -> None:
    with contextlib.suppress(ZeroDivisionError), transaction() as session:
        session.execute(text("update notes set body = 'never'"))
        unit_of_work().tags.add("note:1")
        then()
        raise ZeroDivisionError


def test_what_was_rolled_back_leaves_the_old_answer_true(base: Flask) -> None:
    read_note()
    write_and_fail()
    assert (read_note().payload, read_note().hit) == (b"old", True)


def test_a_unit_of_work_sees_its_own_writes_and_keeps_them_to_itself(base: Flask) -> None:
    read_note()
    seen: list[Result] = []
    write_and_fail(lambda: seen.append(read_note()))
    assert seen == [Result(b"never", False, None)]
    assert read_note().payload == b"old"


def test_tags_without_a_write_touch_nothing(base: Flask) -> None:
    read_note()
    with transaction():
        unit_of_work().tags.add("note:1")
    assert read_note().hit


def test_a_snapshot_that_stands_still_cannot_touch(base: Flask) -> None:
    def write_in_a_snapshot() -> None:
        with transaction() as session:
            session.execute(text("set transaction isolation level repeatable read"))
            session.execute(text("update notes set body = 'new'"))
            unit_of_work().tags.add("note:1")

    with pytest.raises(RuntimeError, match="repeatable read"):
        write_in_a_snapshot()


@contextmanager
def dead(valkey: Valkey, operator: redis.Redis) -> Iterator[None]:
    valkey.kill()
    yield
    valkey.start()


@contextmanager
def paused(valkey: Valkey, operator: redis.Redis) -> Iterator[None]:
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey.pid, signal.SIGCONT)


@contextmanager
def refusing(valkey: Valkey, operator: redis.Redis) -> Iterator[None]:
    """As a Redis that cannot save to its disk, or a replica, does; reads go on."""
    operator.config_set("min-replicas-to-write", 1)
    yield
    operator.config_set("min-replicas-to-write", 0)


Trouble = Callable[[Valkey, redis.Redis], AbstractContextManager[None]]


@pytest.mark.parametrize("trouble", [dead, paused, refusing])
def test_writes_go_on_and_nothing_goes_stale_while_redis_is_in_trouble(
    base: Flask, valkey: Valkey, operator: redis.Redis, trouble: Trouble
) -> None:
    read_note()
    assert read_note().hit
    with trouble(valkey, operator):
        started = time.monotonic()
        write("first")
        assert read_note().payload == b"first"
        assert time.monotonic() - started < 3, "half a second for Redis, a second for the others to notice"
        assert not is_on()
        started = time.monotonic()
        write("second")
        assert read_note().payload == b"second"
        assert time.monotonic() - started < 1, "nobody waits once it is off"
        if trouble is not paused:
            assert not restore_cache_once()
            assert not is_on()
    # Each step may have to wait: for a Valkey that is slow to come back, for transactions of other tests.
    wait_until(restore_cache_once, 30, "the cache to be turned on again")
    wait_until(lambda: read_note().hit, 30, "the next hit")
    assert read_note().payload == b"second"


def test_a_full_redis_is_touched_all_the_same(base: Flask, operator: redis.Redis) -> None:
    read_note()
    operator.config_set("maxmemory", 1)
    assert read_note().hit
    write("new")
    assert is_on()
    assert (read_note().payload, read_note().hit) == (b"new", False)
    operator.config_set("maxmemory", 0)


def test_a_redis_that_was_restarted_is_used_at_once(base: Flask, valkey: Valkey) -> None:
    read_note()
    valkey.stop()
    valkey.start()
    write("new")
    assert is_on()
    assert read_note().payload == b"new"
    wait_until(lambda: read_note().hit)


def test_a_flushed_redis_is_used_at_once(base: Flask, operator: redis.Redis) -> None:
    read_note()
    operator.flushall()
    write("new")
    assert read_note().payload == b"new"
    wait_until(lambda: read_note().hit)


def test_an_old_copy_that_comes_back_is_not_met(base: Flask, valkey: Valkey, operator: redis.Redis) -> None:
    read_note()
    old = {str(name): str(operator.get(name)) for name in operator.keys("*")}
    write("new")
    valkey.stop()
    valkey.start()
    operator.mset(old)
    assert read_note().payload == b"new"
