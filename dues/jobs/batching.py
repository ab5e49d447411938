"""Doing in one attempt what several queued jobs of a kind ask for, where that is no more work than doing it for one.

    others = waiting(kinds.EDGE_PURGE)      # committed before the work begins, so the work covers them
    …
    with run.completion():
        finish(others)

Nothing is held meanwhile: one of them that another worker claims in between is simply done twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import ujson
from sqlalchemy import text

from dues.jobs.kinds import Kind
from dues.postgres import db, fetch_row, unit_of_work

_WAITING = text("""
    select id, args::text from jobs
    where kind = :kind and status = 'queued' and (run_at <= now() or error is not null)
    order by run_at limit :most
""")
# In one order and past what others hold: two that finish the same jobs never wait for each other.
_FINISH = """
    with held as (
        select id from jobs where id = any(%(ids)s::uuid[]) and status = 'queued' order by id for update skip locked),
    finished as (
        update jobs set status = 'succeeded', started_at = coalesce(started_at, clock_timestamp()),
            finished_at = clock_timestamp(), error = null, version = version + 1
        from held where jobs.id = held.id returning 1)
    select count(*) from finished
"""


@dataclass(frozen=True)
class Waiting:
    """A queued job, and what it asks for."""

    job_id: UUID
    args: dict[str, Any]


def waiting(kind: Kind, most: int = 1000) -> list[Waiting]:
    """The queued jobs of `kind` that are due, or were tried and wait for their next attempt. A kind for which this is
    asked has a place in the index `jobs_batched_idx`."""
    with db.engine.connect() as connection:
        rows = connection.execute(_WAITING, {"kind": kind.name, "most": most}).all()
    return [Waiting(job_id, ujson.loads(args)) for job_id, args in rows]


def finish(jobs: Sequence[Waiting]) -> int:
    """What these jobs ask for is done: those that are still queued have succeeded. Part of the caller's transaction().
    Returns: how many."""
    unit_of_work()
    (count,) = fetch_row(_FINISH, {"ids": [str(job.job_id) for job in jobs]}) or (0,)
    return int(count)
