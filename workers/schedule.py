"""Recurring jobs. A tick is a row `(name, due_at)` that commits together with its job, so it is enqueued once however
many relays run. Ticks that were missed while no relay ran are made up for by one tick when a relay is back."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from dues.jobs import Kind, enqueue, kinds
from dues.jobs.outbox import JSON
from dues.postgres import database_now, fetch_row, transaction

_TICK = """
    insert into schedule_ticks(name, due_at, job_id) values (%(name)s, %(due_at)s, gen_random_uuid())
    on conflict do nothing returning name
"""
_TICKED = "update schedule_ticks set job_id = %(job_id)s where name = %(name)s and due_at = %(due_at)s returning name"
# Ticks are kept for a day: a relay of an earlier release goes by its machine's clock, which may be slow, and must still
# find the slot taken.
_FORGET = """
    with old as (
        delete from schedule_ticks where name = %(name)s and due_at < %(due_at)s - interval '1 day' returning 1)
    select count(*) from old
"""


@dataclass(frozen=True)
class Every:
    """A job of `kind` each `seconds`, counted from 1970: the slots are the same for every relay."""

    seconds: int
    kind: Kind
    args: Mapping[str, JSON]
    name: str

    def due_at(self, moment: datetime) -> datetime:
        """The latest slot that has come at `moment`."""
        return datetime.fromtimestamp(moment.timestamp() // self.seconds * self.seconds, UTC)


def every(seconds: int, kind: Kind, args: Mapping[str, JSON] | None = None, *, name: str = "") -> Every:
    """Declare a job that is due every `seconds`; `name` tells apart two of the same kind."""
    return Every(seconds, kind, args or {}, name or kind.name)


_HOURLY = 3600
_EVERY_FIVE_MINUTES = 300

SCHEDULE: tuple[Every, ...] = (
    every(_HOURLY, kinds.FORGET_KEYS),
    every(_HOURLY, kinds.FORGET_JOBS),
    every(_HOURLY, kinds.FORGET_TOKENS),
    every(_HOURLY, kinds.FORGET_CODES),
    every(_HOURLY, kinds.FORGET_ATTEMPTS),
    every(_HOURLY, kinds.FORGET_REPORT_FILES),
    every(_HOURLY, kinds.FORGET_IMPORT_FILES),
    every(_HOURLY, kinds.FORGET_EVENTS),
    every(_HOURLY, kinds.FORGET_CIRCUITS),
    every(_HOURLY, kinds.FORGET_GATEWAY_EVENTS),
    every(_HOURLY, kinds.FORGET_PARTITIONS),
    every(_HOURLY, kinds.FORGET_PLACES),
    every(_EVERY_FIVE_MINUTES, kinds.GATEWAY_SWEEPS),
    every(_HOURLY, kinds.FORGET_SYNC_OPERATIONS),
    every(_HOURLY, kinds.FORGET_SYNC_TOMBSTONES),
)


def tick_once(schedule: tuple[Every, ...] | None = None) -> int:
    """Enqueue the jobs whose slot has come by PostgreSQL's clock, since the relay's own may be wrong. Returns: how
    many."""
    moment = database_now()
    return sum(_tick(entry, moment) for entry in (SCHEDULE if schedule is None else schedule))


def _tick(entry: Every, moment: datetime) -> bool:
    tick: dict[str, object] = {"name": entry.name, "due_at": entry.due_at(moment)}
    with transaction():
        if fetch_row(_TICK, tick) is None:
            return False
        # While the job of an earlier tick still waits or runs, no second one is added.
        tick["job_id"] = enqueue(entry.kind, entry.args, dedupe_key=f"schedule:{entry.name}")
        fetch_row(_TICKED, tick)
        fetch_row(_FORGET, tick)
    return True
