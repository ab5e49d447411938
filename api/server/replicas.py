"""Reads that a replica answers in the primary's place: only where its answer shows that it has seen all that touched
what it depends on (dues/reads/freshness/marks.py), so that it is never older than the primary's.

A task asks the primary for its newest mark, and each replica for the mark that it shows, four times a second. A replica
that is away, is behind, or follows another server is known by that, and not asked.
"""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from api.routing import Priority
from api.server.admission import AdaptiveLimit
from config import Settings
from dues.errors import Unavailable
from dues.observability.metrics import REPLICA_READS
from dues.postgres.aio import LoopPostgres, Lost
from dues.reads.freshness.marks import MARK_LIFE_S, READ, SHOW, Marks, Shown, split, with_mark
from dues.reads.freshness.snapshot import covers
from dues.reads.freshness.store import generation_of
from dues.reads.freshness.validator import Validator
from urls import read_dsn

Row = tuple[Any, ...]
FetchRow = Callable[[str, Mapping[str, object]], Awaitable[Row | None]]

WATCH_S = 0.25
# The longest that a read waits for a replica before the primary is asked.
_PATIENCE_S = 1.0
# How long a replica that failed is left alone.
_REST_S = 1.0

# Clocks of two machines differ, so for the replica's stands the primary's, which is known to within so much.
_CLOCK_WITHIN_S = 0.1
_NOW = re.compile(r"\bnow\s*\(\s*\)", re.IGNORECASE)
_PRIMARY_NOW = "to_timestamp(%(primary_now)s::float8)"
# What depends on the server in other ways is left to the primary; so is text that means a time of its clock.
_OF_THE_SERVER = re.compile(
    r"\b(now|age|\w+_timestamp|timeofday|random|gen_random_uuid|uuidv\d)\s*\(|\b(current_|local)(date|time)"
    r"|'\s*(now|today|tomorrow|yesterday)\b",
    re.IGNORECASE,
)

log = logging.getLogger("dues.replicas")


class ForReplicas(NamedTuple):
    """A statement as replicas are asked it. `by_the_clock`: it takes the primary's time as `primary_now`."""

    sql: str
    by_the_clock: bool


@lru_cache(maxsize=2048)
def for_replicas(sql: str) -> ForReplicas | None:
    """The statement with what shows the mark; None for one that depends on more than rows and the primary's time."""
    timed, found = _NOW.subn(_PRIMARY_NOW, sql)
    # What is said of the primary's time is no function of the server.
    if _OF_THE_SERVER.search(timed.replace(_PRIMARY_NOW, "")):
        return None
    return ForReplicas(with_mark(timed), found > 0)


@dataclass
class Replica:
    """One replica, and what was last found out about it. `turns`: how many statements it runs at once."""

    name: str
    fetch_row: FetchRow
    turns: AdaptiveLimit
    close: Callable[[], None] = lambda: None
    shown: Shown | None = None
    in_use: int = 0
    rest_until: float = 0.0
    fault: str = ""
    behind_since: float = 0.0


class PrimaryClock(NamedTuple):
    """What the primary's clock said, in seconds since 1970, to a question that was asked at `asked_at` of this
    process' own. What is counted on from there is never behind the primary's clock."""

    said: float
    asked_at: float


class Seen(NamedTuple):
    """A replica's row, and the snapshot of the primary all of which it has seen."""

    row: Row
    snapshot: str


class Replicas:
    """The replicas of one event loop. `primary` runs a statement on the primary."""

    def __init__(
        self, replicas: Sequence[Replica], primary: FetchRow, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._replicas, self._primary, self._clock = replicas, primary, clock
        self._marks = Marks(clock)
        # Until it has read some marks of the primary, a process does not know what a replica's are.
        for replica in replicas:
            replica.behind_since = clock()
        self._primary_clock: PrimaryClock | None = None
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, settings: Settings, primary: FetchRow) -> "Replicas | None":
        """Those that are set, if any."""
        urls = settings.database_replica_urls.split()
        return cls([_replica(settings, url) for url in urls], primary) if urls else None

    def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def close(self) -> None:
        if self._task:
            self._task.cancel()
        for replica in self._replicas:
            replica.close()

    async def fetch_row(
        self, validator: Validator, sql: str, values: Mapping[str, object], priority: Priority
    ) -> Seen | None:
        """The row of a read whose tags were looked up as `validator` says, from a replica that has seen all that had
        touched them; None: the primary is to be asked."""
        wanted = for_replicas(sql)
        if wanted is None:
            return None
        replica = self._choose(validator)
        if replica is None:
            REPLICA_READS.labels("behind").inc()
            return None
        replica.in_use += 1
        is_asked = False
        try:
            async with asyncio.timeout(_PATIENCE_S), replica.turns.turn(priority):
                is_asked = True
                timed = {"primary_now": self._primary_now()} if wanted.by_the_clock else {}
                row = await replica.fetch_row(wanted.sql, {**values, **timed})
        except (Lost, TimeoutError) as error:
            # Whose turn did not come in time has learnt nothing about the replica.
            if is_asked:
                self._rest(replica, error)
            REPLICA_READS.labels("failed").inc()
            return None
        except Unavailable:
            # What it replays may stand in the way of a statement, which it then ends.
            REPLICA_READS.labels("failed").inc()
            return None
        finally:
            replica.in_use -= 1
        if row is None:
            # Whether there is nothing, or it has not come yet, the primary knows.
            REPLICA_READS.labels("nothing").inc()
            return None
        own, replica.shown = split(row)
        snapshot = self._seen_by(replica, validator)
        if snapshot is None:
            REPLICA_READS.labels("refused").inc()
        return Seen(own, snapshot) if snapshot else None

    def _choose(self, validator: Validator) -> Replica | None:
        """The least busy of those that are known to have seen enough."""
        able = [replica for replica in self._replicas if self._seen_by(replica, validator)]
        return min(able, key=lambda replica: replica.in_use, default=None)

    def _seen_by(self, replica: Replica, validator: Validator) -> str | None:
        """The snapshot that a replica has seen, where it covers the tags' values."""
        if replica.shown is None or self._clock() < replica.rest_until:
            return None
        snapshot = self._marks.snapshot_of(replica.shown, generation_of(validator.prefix))
        return snapshot if snapshot and covers(validator.version, snapshot) else None

    def _primary_now(self) -> float:
        """The primary's time, or a little more: what has ended by its clock has ended here, too. Raises: Unavailable
        where it is not known."""
        known, moment = self._primary_clock, self._clock()
        if known is None or moment - known.asked_at >= MARK_LIFE_S:
            raise Unavailable("the primary's time is not known at present")
        return known.said + moment - known.asked_at

    def _rest(self, replica: Replica, error: Exception) -> None:
        replica.shown, replica.rest_until = None, self._clock() + _REST_S
        self._tell(replica, "does not answer", error)

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(WATCH_S)

    async def look(self) -> None:
        """Ask the primary for its mark, and the replicas for theirs. Never raises."""
        asked_at = self._clock()
        try:
            row = await self._primary(READ, {})
        except (Lost, Unavailable):
            row = None
        if row:
            *mark, said = row
            self._marks.add(*mark)
            is_near = self._clock() - asked_at <= _CLOCK_WITHIN_S
            self._primary_clock = PrimaryClock(said, asked_at) if is_near else None
        await asyncio.gather(*(self._look_at(replica, row[1] if row else None) for replica in self._replicas))

    async def _look_at(self, replica: Replica, generation: int | None) -> None:
        if self._clock() < replica.rest_until:
            return
        try:
            async with asyncio.timeout(_PATIENCE_S):
                row = await replica.fetch_row(SHOW, {})
        except (Lost, Unavailable, TimeoutError) as error:
            self._rest(replica, error)
            return
        replica.shown = Shown(*row) if row else None
        if replica.shown and not replica.shown.is_standby:
            self._tell(replica, "is no standby")
        elif replica.shown and generation is not None and self._marks.snapshot_of(replica.shown, generation):
            replica.behind_since = self._clock()
            self._tell(replica, "")
        elif self._clock() - replica.behind_since > MARK_LIFE_S:
            self._tell(replica, "is behind, or follows another primary")

    def _tell(self, replica: Replica, fault: str, error: Exception | None = None) -> None:
        """Log what has changed, and what PostgreSQL says of it, which holds no password."""
        if fault == replica.fault:
            return
        replica.fault = fault
        reason = f" ({_said(error)})" if error else ""
        log.warning(
            "the replica %s %s", replica.name, f"{fault}{reason}: it is not read from" if fault else "is read from"
        )


def _said(error: Exception) -> str:
    """What is the matter: the first line. Others are advice, or show where in a statement it is."""
    return str(error.__cause__ or "").strip().partition("\n")[0] or "nothing came in time"


def _replica(settings: Settings, url: str) -> Replica:
    parts = read_dsn(url)
    postgres = LoopPostgres(settings, url)
    name = f"{parts.get('host', 'localhost')}:{parts.get('port', '5432')}"
    return Replica(name, postgres.fetch_row, AdaptiveLimit(settings.db_read_connections), postgres.close)
