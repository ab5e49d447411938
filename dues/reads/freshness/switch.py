"""The switch: whether the cache may be used, and under which generation's names. One row, `cache_switch`.

It carries the writers over a Redis that does not answer. Every process that reads through the cache asks for the
row every 250 ms, and uses the cache only within 1 s of having *started* a reading that said on. A writer whose
touch was not acknowledged closes the switch, waits until nobody can still believe that it is on, and notes that
this is so (`settled`): from then on no writer waits, until the relay opens it with a new generation.

The table is unlogged: a PostgreSQL that crashed, failed over or was restored from a copy comes back without the row,
which reads as off, and with a new generation, since transaction ids may now be given out a second time.
"""

import logging
import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import NamedTuple

import psycopg2
import psycopg2.extensions

from dues.observability.metrics import CACHE_CLOSED
from dues.postgres.spread import IS_SPREAD

POLL_S = 0.25
BELIEF_S = 1.0
# What is closed again this soon after it was opened is opened more seldom, at the seldomest every half minute.
_SOON_S = 4.0
_LONGEST_PATIENCE_S = 30.0
# Longer than any belief: how long a closed switch takes until everybody has noticed.
SETTLE_S = 1.1

# Where Citus distributes tables the ids of transactions are those of each node by itself, and a snapshot is that of the
# node which answered: none of what docs/freshness.md proves would hold.
READ = f"""
    select generation, "on", settled, {IS_SPREAD} from cache_switch
"""
# In one message with what follows, so that it holds for that, whoever pools the connection.
_BOUNDED = "set local statement_timeout = 2000; set local lock_timeout = 2000; "
NEW_XID = "select pg_current_xact_id()::text"
_CLOSE = 'update cache_switch set "on" = false, settled = false where generation = %s and "on"'
_SETTLE = (
    'insert into cache_switch(generation, "on", settled) values (%s, false, true) on conflict (one) do update'
    ' set settled = true where cache_switch.generation = %s and not cache_switch."on"'
)
_OPEN = (
    'update cache_switch set generation = %s, "on" = true, settled = false'
    ' where generation = %s and not "on" and settled'
)

DISTRIBUTED = "the database has the extension citus, under which no cached answer can be known to be fresh"

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """The switch as it was read; no row at all is None, and reads as off and not settled.

    is_distributed: the database may be spread over several servers, so that the cache stays off, whatever `on` says.
    """

    generation: int
    on: bool
    settled: bool
    is_distributed: bool = False


class SwitchTable:
    """The row, each change in a transaction of its own on a connection of its own, which `connect` opens in autocommit
    mode: a writer that is in the middle of a transaction makes them, and the pool may be empty. Raises: psycopg2.Error.
    """

    def __init__(self, connect: Callable[[], psycopg2.extensions.connection]) -> None:
        self.connect = connect

    def _run(self, sql: str, values: Sequence[object] = ()) -> int:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(_BOUNDED + sql, values)
            return cursor.rowcount

    def read(self) -> Row | None:
        with closing(self.connect()) as connection:
            return read_row(connection)

    def close(self, generation: int, why: str = "a write could not reach Redis") -> None:
        if self._run(_CLOSE, (generation,)):
            CACHE_CLOSED.inc()
            log.warning("the cache is off: %s", why)

    def settle(self, generation: int | None) -> None:
        """Note that nobody believes any more that `generation` (None: whatever was before the row was lost) is on."""
        self._run(_SETTLE, (_new_generation(), generation))

    def open(self, generation: int) -> bool:
        """Turn the settled `generation` into a new one that is on. False if somebody else has, or it is not so."""
        opened = self._run(_OPEN, (_new_generation(), generation)) == 1
        if opened:
            log.warning("the cache is on again")
        return opened

    def new_xid(self) -> str:
        """A transaction id that is given out now."""
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(_BOUNDED + NEW_XID)
            (xid,) = cursor.fetchone() or ("",)
            return str(xid)


def read_row(connection: psycopg2.extensions.connection) -> Row | None:
    with connection.cursor() as cursor:
        cursor.execute(_BOUNDED + READ)
        found = cursor.fetchone()
    return Row(*found) if found else None


def _new_generation() -> int:
    """One that never was: drawn, not counted, because a database restored from a copy would count again."""
    return secrets.randbits(62)


class Restorer:
    """The relay's part: brings the cache back once Redis can be written to again.

    Where it is soon closed again, because some process cannot reach Redis though the relay can, it is opened ever more
    seldom: each closing costs a write a second and a half.
    """

    def __init__(
        self, table: SwitchTable, takes_writes: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._table, self._takes_writes, self._clock = table, takes_writes, clock
        self._closed: tuple[int | None, float] | None = None
        self._opened_at, self._patience_s = float("-inf"), 0.0

    def restore_once(self, row: Row | None) -> bool:
        """Do the next thing that `row` (the switch, read just now) allows; never waits for it. True: on again.

        A closed switch that no writer settled (it died) is settled here once it was seen for long enough.
        """
        if row and row.on:
            self._closed = None
            if row.is_distributed:
                self._table.close(row.generation, DISTRIBUTED)
            return False
        generation = row.generation if row else None
        if not (row and row.settled):
            if self._closed is None or self._closed[0] != generation:
                self._closed = (generation, self._clock())
            elif self._clock() - self._closed[1] >= SETTLE_S:
                self._table.settle(generation)
            return False
        if row.is_distributed:
            return False
        return self._may_open() and self._takes_writes() and self._open(row.generation)

    def _may_open(self) -> bool:
        return self._clock() - self._opened_at >= self._patience_s

    def _open(self, generation: int) -> bool:
        if not self._table.open(generation):
            return False
        lasted = self._clock() - self._opened_at
        soon = lasted < 2 * self._patience_s + _SOON_S
        self._patience_s = min(max(2 * self._patience_s, _SOON_S), _LONGEST_PATIENCE_S) if soon else 0.0
        self._opened_at = self._clock()
        return True


class Belief:
    """What a process believes of the switch. `generation()` may be asked from any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reading: tuple[Row | None, float] = (None, float("-inf"))

    def generation(self) -> int | None:
        """The generation whose names may be used for a request that arrived before this was asked; None: the cache
        may not be used."""
        row, started = self._reading
        is_on = row and row.on and not row.is_distributed
        return row.generation if row and is_on and self._clock() - started < BELIEF_S else None

    def read(self, row: Callable[[], Row | None]) -> None:
        """Take one reading. It counts from its start: what was on then may be off by its end."""
        started = self._clock()
        self._reading = (row(), started)


class Poller(Belief):
    """Reads the switch in a thread of its own, which starts with the first question."""

    def __init__(self, table: SwitchTable) -> None:
        super().__init__()
        self._table = table
        self._pid = 0
        self._stop = threading.Event()

    def generation(self) -> int | None:
        if self._pid != os.getpid():
            self._start()
        return super().generation()

    def stop(self) -> None:
        self._stop.set()

    def _start(self) -> None:
        # Two threads that get here at once start two pollers, which is harmless; so does a child after fork().
        self._pid, self._stop = os.getpid(), threading.Event()
        first = threading.Event()
        threading.Thread(target=self._poll, args=(self._stop, first), name="cache-switch", daemon=True).start()
        first.wait(BELIEF_S)

    def _poll(self, stop: threading.Event, first: threading.Event) -> None:
        connection: psycopg2.extensions.connection | None = None
        while not stop.is_set():
            try:
                connection = connection or self._table.connect()
                self.read(partial(read_row, connection))
            except psycopg2.Error:
                # What was read before runs out by itself.
                if connection:
                    connection.close()
                connection = None
            first.set()
            stop.wait(POLL_S)
        if connection:
            connection.close()
