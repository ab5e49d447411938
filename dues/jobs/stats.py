"""How far behind the queues are, and how many workers would keep up: what those who scale workers watch, in `/metrics`
and `flask jobs stats`.

It asks PostgreSQL alone, so it tells the truth while Redis is away, and counts what no relay has seen yet.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import text

from dues.jobs.kinds import OBJECTIVES_S, QUEUES
from dues.jobs.lease import TENANT
from dues.jobs.queues import store_limit, threads
from dues.postgres import db

# The share of its time that a worker should be at work: with more, jobs queue up behind one another.
_BUSY = 0.7
# A queue in which a job has been due for so long, and none is running, has no worker as far as can be told.
_UNSERVED_S = 60.0

# Rates are those of the last minute. A job that became due in it is due still, running, or ended in it as well. The
# length of an attempt is the time from when the job was last due to its end, less what it waited before its first.
_QUEUES = text(f"""
    with queues as (
        select * from unnest(cast(:queues as text[]), cast(:limits as int[])) with ordinality q(name, most, position)),
    at_limit as (
        select queue, {TENANT} as tenant from jobs join queues on name = queue
        where status = 'running' and most is not null group by 1, 2, most having count(*) >= most),
    due as (
        select jobs.queue, at_limit.tenant is not null as held_back, run_at from jobs
        left join at_limit on at_limit.queue = jobs.queue and at_limit.tenant = {TENANT}
        where status = 'queued' and due and run_at <= now())
    select q.name, coalesce(due.depth, 0), coalesce(due.held_back, 0), coalesce(due.latency_s, 0),
        coalesce(due.relay_lag_s, 0), coalesce(held.running, 0), coalesce(held.expired, 0),
        (coalesce(due.arrived, 0) + coalesce(held.arrived, 0) + coalesce(ended.arrived, 0)) / 60.0,
        coalesce(ended.failed, 0) / 60.0, coalesce(unknown.jobs, 0), ended.mean_s
    from queues q
    left join (select queue, count(*) filter (where not held_back) as depth,
                   count(*) filter (where held_back) as held_back,
                   extract(epoch from clock_timestamp() - min(run_at) filter (where not held_back)) as latency_s,
                   extract(epoch from clock_timestamp()
                       - greatest(min(run_at), (select looked_at from relay_looks))) as relay_lag_s,
                   count(*) filter (where run_at > now() - interval '1 min') as arrived
               from due group by queue) due on due.queue = q.name
    left join (select queue, count(*) as running,
                   count(*) filter (where lease_until < clock_timestamp()) as expired,
                   count(*) filter (where run_at > now() - interval '1 min') as arrived
               from jobs where status = 'running' group by queue) held on held.queue = q.name
    left join (select queue, count(*) filter (where run_at > now() - interval '1 min') as arrived,
                   count(*) filter (where status = 'failed') as failed,
                   avg(extract(epoch from finished_at - greatest(started_at, run_at))) as mean_s
               from jobs where finished_at > now() - interval '1 min' group by queue) ended on ended.queue = q.name
    left join (select queue, count(*) as jobs from jobs
               where status = 'queued' and error ->> 'type' = '/problems/unknown_job_kind'
               group by queue) unknown on unknown.queue = q.name
    order by q.position
""")


@dataclass(frozen=True)
class QueueStats:
    """A queue now. `depth` is the jobs that are due, without those that are `held_back` because their store has as many
    running as it may, for which more workers would do nothing. `latency_s` is how long the oldest of the `depth` has
    waited; `relay_lag_s` how long no relay has looked at what is due, which is below some seconds where all is well;
    `expired` those of the `running` whose worker is silent; `unknown` those that wait for a worker that knows their
    kind. A worker process does `threads` jobs at once.

    Of the last minute: how many jobs came to be due or failed for good in a second, and how long one takes on average
    (None where none ended).
    """

    queue: str
    depth: int
    latency_s: float
    relay_lag_s: float
    running: int
    expired: int
    objective_s: float
    arrivals_per_s: float = 0.0
    failures_per_s: float = 0.0
    mean_s: float | None = None
    held_back: int = 0
    unknown: int = 0
    threads: int = 1

    @property
    def recommended_workers(self) -> int:
        """Enough for what arrives with some time to spare; and where jobs wait for more than half of the objective,
        enough to have done those as well when it is over."""
        mean_s = self.mean_s or 0.0
        wanted = self.arrivals_per_s * mean_s / _BUSY
        if self.latency_s > self.objective_s / 2:
            # Of a queue in which nothing ends nobody knows how long a job takes; one more worker is a beginning.
            wanted = max(wanted + self.depth * mean_s / self.objective_s, self.running + 1)
        return max(1, math.ceil(wanted / self.threads))


_notices: list[Callable[[], str]] = []


def notice(function: Callable[[], str]) -> Callable[[], str]:
    """Have operators be shown, below the queues, the sentence that the decorated function returns; "" for nothing."""
    _notices.append(function)
    return function


def notices(queues: Sequence[QueueStats]) -> list[str]:
    """Queues that nobody seems to serve, and what slices have to say about work that has come to a stop."""
    unserved = [
        f"{found.queue}: jobs have been due for {found.latency_s:.0f} s and none is running: does a worker serve it"
        " (WORKER_QUEUES)?"
        for found in queues
        if found.latency_s > _UNSERVED_S and not found.running
    ]
    return unserved + [said for function in _notices if (said := function())]


def queue_stats() -> list[QueueStats]:
    """Every queue, empty ones too."""
    asked = {"queues": list(QUEUES), "limits": [store_limit(queue) for queue in QUEUES]}
    with db.engine.connect() as connection:
        rows = connection.execute(_QUEUES, asked).all()
    return [
        QueueStats(
            queue,
            depth,
            float(latency_s),
            float(relay_lag_s),
            running,
            expired,
            OBJECTIVES_S[queue],
            float(arrivals),
            float(failures),
            None if mean_s is None else float(mean_s),
            held_back,
            unknown,
            threads(queue),
        )
        for queue, depth, held_back, latency_s, relay_lag_s, running, expired, arrivals, failures, unknown, mean_s in (
            rows
        )
    ]
