"""A statement that runs later goes out with the next one, in its turn, whoever sends that."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress

import psycopg2
import pytest
from flask import Flask
from sqlalchemy import text

from dues.postgres import connection as prepared
from dues.postgres import db, fetch_row, fetch_row_alone, run_later, transaction
from dues.postgres.pool import pool_of
from tests.recorder import Queries

Recording = Callable[[], AbstractContextManager[Queries]]

# A table that no cached answer shows.
_ADD = (
    "insert into idempotency_keys(scope, key, request_hash, status, headers, body)"
    " values (%(scope)s, %(key)s, '', 200, '{}', '')"
)
_KEYS = "select coalesce(array_agg(key order by created_at, key), '{}') from idempotency_keys where scope = %(scope)s"
SCOPE = "later 100 %; execute"


@pytest.fixture(autouse=True)
def context(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def keys() -> list[str]:
    row = fetch_row(_KEYS, {"scope": SCOPE})
    assert row
    found: list[str] = row[0]
    return found


def add_later(key: str) -> None:
    run_later(_ADD, {"scope": SCOPE, "key": key})


def test_it_costs_no_message_of_its_own_and_is_seen_by_the_next(queries: Recording) -> None:
    with queries() as seen, transaction():
        add_later("a")
        add_later("b")
        assert not seen
        assert keys() == ["a", "b"]
        assert len(seen) == 1, str(seen)
    assert keys() == ["a", "b"]


def test_what_the_orm_sends_next_comes_after_it() -> None:
    with transaction() as session:
        add_later("a")
        assert session.scalar(text(_KEYS.replace("%(scope)s", ":scope")), {"scope": SCOPE}) == ["a"]


def test_it_is_there_with_the_commit_and_gone_with_a_rollback() -> None:
    with transaction():
        add_later("a")
    with suppress(KeyError), transaction():
        add_later("b")
        raise KeyError
    with suppress(KeyError), transaction():
        add_later("c")
        assert keys() == ["a", "c"]
        raise KeyError
    assert keys() == ["a"]


def test_what_is_wrong_with_it_is_raised_at_the_commit_at_the_latest() -> None:
    with transaction():
        add_later("a")
    with pytest.raises(psycopg2.errors.UniqueViolation), transaction():
        add_later("a")
    with pytest.raises(RuntimeError):
        add_later("b")


def test_who_reads_apart_does_not_see_it(queries: Recording) -> None:
    with transaction():
        add_later("a")
        assert keys() == ["a"]
        assert fetch_row_alone(_KEYS, {"scope": SCOPE}) == ([],)


def test_many_prepared_at_once_stay_within_what_a_connection_keeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_KEPT", 3)
    monkeypatch.setattr(prepared, "_HOT", 1)
    # Of those that are idle, each may have kept what other tests have prepared.
    pool_of(db.engine).forget_older()
    for number in range(5):
        with transaction():
            add_later(f"{number}")
            run_later(f"select {number}, %(n)s::int", {"n": number})
            run_later(f"select {number + 1}, %(n)s::int", {"n": number})
            assert fetch_row("select %(n)s::int * 2", {"n": number}, hot=True) == (2 * number,)
    with transaction():
        row = fetch_row("select count(*) from pg_prepared_statements where name like 'dues%%'", {})
        assert row
        # Those of one message are all prepared before one of them is forgotten.
        assert row[0] <= 4
    assert keys() == ["0", "1", "2", "3", "4"]


def test_one_that_fails_each_time_is_prepared_once() -> None:
    pool_of(db.engine).forget_older()
    for _ in range(20):
        with pytest.raises(psycopg2.errors.DivisionByZero), transaction():
            fetch_row("select 1 / %(n)s::int", {"n": 0}, hot=True)
    with transaction():
        row = fetch_row("select count(*) from pg_prepared_statements where statement like '%% as select 1 /%%'", {})
    assert row == (1,)


def test_of_one_that_is_seen_once_no_text_is_kept() -> None:
    class Text(str):
        """Which, unlike `str`, can be referred to weakly."""

    # Which no other test sends.
    sql = Text("select %(n)s::int as seen_once")
    kept = weakref.ref(sql)
    with transaction():
        assert fetch_row(sql, {"n": 1}, hot=True) == (1,)
    del sql
    assert kept() is None
