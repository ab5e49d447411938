"""Marks: how an answer that a replica gave shows what it has seen.

A replica's own snapshot does not say that: it does not list what runs on the primary, and after a failover its ids may
mean other transactions. So the relay writes a **mark** on the primary every half second: a number drawn at random, and
beside it the snapshot of the statement that wrote it. Every web process reads the newest mark from the primary. A
replica whose answer shows this number, read in the same statement, has replayed the commit that wrote it, and with it
everything that had ended before: it has seen all that the primary's snapshot at the mark had seen. That snapshot then
stands for the answer's own.
"""

import secrets
import time
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from dues.postgres import fetch_row_alone

MARK_EVERY_S = 0.5
# A mark that was read this long ago proves nothing any more: a replica that shows no newer one is not followed up to
# now, or follows another server.
MARK_LIFE_S = 5.0

# The generation tells the histories of two primaries apart. `previous` is for replicas that are ahead of what a web
# process has read of the primary. A crash may lose a mark, and ends its generation.
_MAKE = """
    insert into replica_mark as m (one, generation, mark, snapshot, made_at)
    select true, generation, %(mark)s, pg_current_snapshot()::text, clock_timestamp()
    from cache_switch, (select set_config('synchronous_commit', 'off', true)) unhurried where "on"
    on conflict (one) do update set generation = excluded.generation, mark = excluded.mark, previous = m.mark,
        snapshot = excluded.snapshot, made_at = excluded.made_at
    where m.made_at not between excluded.made_at - make_interval(secs => %(at_least_s)s) and excluded.made_at
    returning mark
"""
# Of the primary: only one that takes writes has the row of an unlogged table, and can be asked for it.
# Returns as well the primary's clock, in seconds since 1970.
READ = """
    select m.mark, m.generation, m.snapshot, extract(epoch from clock_timestamp())::float8
    from replica_mark m join cache_switch s on s.generation = m.generation
"""
# Of a replica.
SHOW = "select mark, previous, pg_is_in_recovery() from replica_mark"
_SHOWN_COLUMNS = 3


def make_mark() -> bool:
    """For the relay, every so often. False where the cache is off, and no mark would be of use, or another relay has
    just made one."""
    values = {"mark": secrets.randbits(62), "at_least_s": MARK_EVERY_S * 0.8}
    return fetch_row_alone(_MAKE, values) is not None


@lru_cache(maxsize=2048)
def with_mark(sql: str) -> str:
    """A statement whose rows end with what SHOW shows, in the same snapshot."""
    shown = ", ".join(f"(select {column} from replica_mark)" for column in ("mark", "previous"))
    return f"select a.*, {shown}, pg_is_in_recovery() from ({sql}) a"


class Shown(NamedTuple):
    """What a replica shows: the newest mark that it has replayed, and the one before. `is_standby`: it takes no writes
    of its own."""

    mark: int | None
    previous: int | None
    is_standby: bool


def split(row: tuple[object, ...]) -> tuple[tuple[object, ...], Shown]:
    """A row of `with_mark()`: the statement's own, and what was shown beside it."""
    mark, previous, is_standby = row[-_SHOWN_COLUMNS:]
    return row[:-_SHOWN_COLUMNS], Shown(mark, previous, is_standby)  # type: ignore[arg-type]


class _Known(NamedTuple):
    generation: int
    snapshot: str
    read_at: float


class Marks:
    """The marks that one process has read of the primary of late."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[int, _Known] = {}

    def add(self, mark: int, generation: int, snapshot: str) -> None:
        """A mark that was read from the primary, by a reading that began after this process's last."""
        moment = self._clock()
        self._known = {number: known for number, known in self._known.items() if moment - known.read_at < MARK_LIFE_S}
        self._known.setdefault(mark, _Known(generation, snapshot, moment))

    def snapshot_of(self, shown: Shown, generation: int) -> str | None:
        """The snapshot of the primary of `generation` all of which has been seen by a replica that shows this; None
        where that is not known."""
        if not shown.is_standby:
            return None
        for mark in (shown.mark, shown.previous):
            known = self._known.get(mark) if mark is not None else None
            if known and known.generation == generation and self._clock() - known.read_at < MARK_LIFE_S:
                return known.snapshot
        return None
