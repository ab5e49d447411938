"""Reads a report from one snapshot of the database, whatever is written meanwhile.

A report has a connection of its own, because it holds it for as long as it takes: a transaction that only reads,
at one snapshot, with bounds on time and memory that suit one long statement and not many short ones.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any, Protocol

import psycopg2

from dues.clock import now
from dues.postgres import connect, fetch_row, is_spread
from dues.settings import settings

# The job's own time limit comes first; this one ends the statement where the worker has died.
_STATEMENT_TIMEOUT_MS = 3_600_000
# For joins to users and packages: enough memory for some 200,000 of them; beyond that joins read rows again.
_WORK_MEM = "64MB"


# A payment's or refund's time is read a little before its commit, on a clock that may be a little behind.
_GRACE = timedelta(seconds=10)
# Every transaction of Dues has ended by then: statements take at most 15 s, and pauses between them 60 s.
_LONGEST_WRITE = timedelta(minutes=2)
# Where the database is spread, a writer may have written to other servers alone and have no id here, like a reader.
_UNDER_WAY = """
    select exists (select from pg_stat_activity where datname = current_database()
        and (backend_xid is not null or %(is_spread)s and backend_type = 'client backend')
        and xact_start < %(moment)s and pid <> pg_backend_pid())
"""


class LineSink(Protocol):
    """Takes rows as COPY writes them, one call for each."""

    def write(self, line: bytes, /) -> object: ...


class Snapshot:
    def __init__(self, connection: Any, streams: bool) -> None:
        self._cursor = connection.cursor()
        self._cursor.execute(
            "select set_config('statement_timeout', %s, true), set_config('work_mem', %s, true),"
            " set_config('enable_seqscan', 'on', true), set_config('enable_sort', %s, true)",
            (str(_STATEMENT_TIMEOUT_MS), _WORK_MEM, "off" if streams else "on"),
        )

    def value(self, query: str, values: Mapping[str, Any]) -> Any:
        """The single value that a query returns."""
        self._cursor.execute(query, values)
        return self._cursor.fetchone()[0]

    def copy(self, statement: str, values: Mapping[str, Any], sink: LineSink) -> None:
        """Run a `COPY (…) TO STDOUT`. What the sink raises ends it."""
        self._cursor.copy_expert(self._cursor.mogrify(statement, values), sink)


def is_settled(moment: datetime) -> bool:
    """Whether a snapshot taken from now on shows all that happened before `moment`, as far as that has passed: else a
    report of a month that has just ended might lack what another one shows later."""
    passed = now() - moment
    if passed < timedelta(0) or passed > _LONGEST_WRITE:
        return True
    row = fetch_row(_UNDER_WAY, {"moment": moment, "is_spread": is_spread()})
    return passed >= _GRACE and row is not None and not row[0]


@contextmanager
def snapshot(*, streams: bool) -> Iterator[Snapshot]:
    """A snapshot of the database as it is now. `streams` asks for plans that give the first rows at once, in the order
    of an index, over those that sort all rows first."""
    connection = connect(settings(), "dues report")
    try:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
        yield Snapshot(connection, streams)
    except BaseException:
        # Cancel the statement: the server must not go on with rows that nobody reads any more.
        with suppress(psycopg2.Error):
            connection.cancel()
        raise
    finally:
        connection.close()
