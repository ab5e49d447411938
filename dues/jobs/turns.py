"""Whose turn it is: in each queue, stores take turns, however much each of them has asked for.

A worker that is free takes the next job of the store that comes after the one it served last, in the ring of all stores
that have something due; within a store, a lower `priority` goes first, and then what has been due for longer. What
belongs to no store takes turns by its owner, and what belongs to nobody is one more in the ring.

The choice is made when a worker is free, and not before: however long the queue of one store is, another store's new
job waits for at most one job of each store that is waiting, and not for a place behind all of theirs. A queue may also
bound how many jobs of one store run at once (`store_limit`), so that some workers stay free for the others.
"""

import threading
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dues.jobs.kinds import QueueName
from dues.jobs.lease import TENANT, Begun, Claim, Lease, begin, claim, claim_statement
from dues.jobs.queues import store_limit
from dues.postgres import fetch_row

# A job is `due` from the start, or becomes so when the relay (or a worker, now and then) finds that its time has come.
# There is an index of due jobs alone, in which the next store is one step away.
_DUE = """
    queue = %(queue)s and status = 'queued' and due and run_at <= now()
    and attempt < max_attempts and cancel_requested_at is null
"""
# The stores of the ring from the one after `after` on and around, each found by one step through that index; and of
# each store as many jobs as it may have, the first of all stores before the second of any.
_TURNS = f"""
    recursive ahead(tenant, number) as (
        (select {TENANT}, 1 from jobs where {_DUE} and {TENANT} > %(after)s::uuid order by {TENANT} limit 1)
        union all
        select next.tenant, number + 1 from ahead cross join lateral (
            select {TENANT} as tenant from jobs where {_DUE} and {TENANT} > ahead.tenant
            order by {TENANT} limit 1) next
        where number < %(most)s::int),
    around(tenant, number) as (
        (select {TENANT}, 1 from jobs where {_DUE} and {TENANT} <= %(after)s::uuid order by {TENANT} limit 1)
        union all
        select next.tenant, number + 1 from around cross join lateral (
            select {TENANT} as tenant from jobs
            where {_DUE} and {TENANT} > around.tenant and {TENANT} <= %(after)s::uuid
            order by {TENANT} limit 1) next
        where number < %(most)s::int),
    ring as (
        select tenant, number from ahead
        union all select tenant, number + %(most)s::int from around
        order by number limit %(most)s::int),
    running as (
        select {TENANT} as tenant, count(*) as jobs from jobs
        where %(limit)s::int is not null and status = 'running' and queue = %(queue)s group by 1),
    turns as materialized (
        select job.id, row_number() over (order by job.lap, ring.number) as position
        from ring left join running using (tenant) cross join lateral (
            select id, row_number() over (order by priority, run_at, id) as lap from jobs
            where {_DUE} and {TENANT} = ring.tenant
            order by priority, run_at, id
            limit least(greatest(coalesce(%(limit)s::int, %(most)s::int) - coalesce(running.jobs, 0), 0),
                        1 + %(most)s::int / (select count(*) from ring))) job
        order by position limit %(most)s::int)
"""
_CLAIM_NEXT = claim_statement(_TURNS)
_COUNT = f"with {_TURNS} select count(*) from turns"
_BECOME_DUE = """
    with later as (
        select id from jobs where status = 'queued' and not due and run_at <= now()
        order by run_at limit %(most)s for update skip locked),
    became as (
        update jobs set due = true, waits_for = null, version = version + (waits_for is not null)::int
        from later where jobs.id = later.id returning 1)
    select count(*) from became
"""

# How many turns are looked up at once, and how many of those are asked for at once where others take them, too.
_MOST, _ASKED = 50, 10
# For how long they hold, so that many short jobs are one look. A newcomer waits for as long at most.
_TRUST_S = 0.01
# Where a look takes long (old versions of rows that a long transaction keeps from being removed lie in its way), the
# turns hold for so many times that.
_TRUST_TIMES = 5
MOST_BECOMING_DUE = 1000

_FIRST = UUID(int=0)


class Turns:
    """The turns of one queue as one process takes them. Any number of threads may ask."""

    def __init__(self, queue: QueueName) -> None:
        self._queue = queue
        self._after = _FIRST
        self._next: list[UUID] = []
        self._hold_until = 0.0
        self._limit: int | None = None
        self._lock = threading.Lock()

    def claim(self, worker: str, free: int | None = None) -> tuple[Claim, Lease] | None:
        """Begin an attempt at the job whose turn it is; None where none is due, or none that its store may have run
        now. Of any number of workers that ask at once each gets another job. `free`: how many threads the process has
        left, where it has several."""
        with self._lock:
            limit = store_limit(self._queue, free)
            # Turns that were looked up while a store might have more running may be of one that has enough by now.
            if limit is not None and self._limit is not None and limit < self._limit:
                self._next = []
            begun = self._claim_known(worker) or self._claim_next(worker, limit)
            if begun is None:
                return None
            self._after = begun.tenant
            return begun.claim, begun.lease

    def _claim_known(self, worker: str) -> Begun | None:
        """One of those whose turns were looked up a moment ago; others may have taken some of them meanwhile."""
        count = 1
        while self._next and time.monotonic() < self._hold_until:
            asked, self._next = self._next[:count], self._next[count:]
            if begun := claim(asked, worker):
                self._next = asked[asked.index(begun.claim.job_id) + 1 :] + self._next
                return begun
            count = _ASKED
        return None

    def _claim_next(self, worker: str, limit: int | None) -> Begun | None:
        started = time.monotonic()
        begun = begin(_CLAIM_NEXT, _look(self._queue, self._after, _MOST, limit), worker)
        ended = time.monotonic()
        self._limit = limit
        self._hold_until = ended + max(_TRUST_S, _TRUST_TIMES * (ended - started))
        self._next = begun.turns[begun.turns.index(begun.claim.job_id) + 1 :] if begun else []
        return begun


def count_turns(queue: QueueName, most: int) -> int:
    """How many jobs of a queue workers could begin now, up to `most`."""
    (count,) = fetch_row(_COUNT, _look(queue, _FIRST, most, store_limit(queue)), hot=True) or (0,)
    return int(count)


def _look(queue: QueueName, after: UUID, most: int, limit: int | None = None) -> Mapping[str, Any]:
    return {"queue": queue, "after": after, "most": most, "limit": limit}


def become_due() -> int:
    """Have jobs be due whose time has come, some at a time. In the caller's transaction, or alone. Returns: how
    many."""
    (count,) = fetch_row(_BECOME_DUE, {"most": MOST_BECOMING_DUE}) or (0,)
    return int(count)
