"""Statements by themselves: in the unit of work that the caller is in, or alone, in one round trip."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import psycopg2

from dues.postgres.connection import Row
from dues.postgres.engine import db
from dues.postgres.pool import pool_of
from dues.postgres.transactions import unit_of_work
from dues.postgres.unit_of_work import present_work


def fetch_row(sql: str, values: Mapping[str, Any], *, hot: bool = False) -> Row | None:
    """Run one statement and return its first row, or None.

    Inside `transaction()` it runs there, prepared if it is `hot`, and sees what was written. Outside it runs alone,
    prepared when it recurs, in autocommit mode, on a pooled connection that is given back before this returns; a
    connection that had become useless while it lay idle is replaced once.
    """
    work = present_work.get()
    return work.execute(sql, values, hot=hot) if work else fetch_row_alone(sql, values)


def fetch_row_alone(sql: str, values: Mapping[str, Any]) -> Row | None:
    """The same, apart from any `transaction()` that the caller may be in."""
    pool = pool_of(db.engine)
    for may_repeat in (True, False):
        with pool.borrowed() as connection:
            try:
                return connection.execute([(sql, values)])
            except psycopg2.Error:
                if not (may_repeat and connection.is_useless and connection.has_lain_idle):
                    raise
    raise AssertionError("the second time returns or raises")


def database_now() -> datetime:
    """PostgreSQL's clock. It decides wherever a stored time is compared with the present: the clocks of the machines
    that Dues runs on differ."""
    row = fetch_row("select clock_timestamp()", {})
    assert row
    moment: datetime = row[0]
    return moment


def run_later(sql: str, values: Mapping[str, Any]) -> None:
    """Run a statement whose answer nobody needs, in the present unit of work: it goes out in one message with the next
    that is asked for, so it costs no round trip. What is wrong with it is raised there, or at the commit."""
    unit_of_work().execute(sql, values, later=True)


def array_text(words: Iterable[str]) -> str:
    """An array as PostgreSQL writes one, for a parameter whose type the statement names: words that need no quotes. A
    list would be sent as an array of texts, which no prepared statement takes for one of ids."""
    return "{" + ",".join(words) + "}"
