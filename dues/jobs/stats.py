"""How far behind the queues are: what those who scale workers watch, in `/metrics` and `flask jobs stats`.

It asks PostgreSQL alone, so it tells the truth while Redis is away, and counts what no relay has seen yet.
"""

from dataclasses import dataclass

from sqlalchemy import text

from dues.db import db
from dues.jobs.kinds import QUEUES

_QUEUES = text("""
    select q.name, coalesce(due.depth, 0), coalesce(due.latency_s, 0), coalesce(due.relay_lag_s, 0),
        coalesce(held.running, 0), coalesce(held.expired, 0)
    from unnest(cast(:queues as text[])) with ordinality q(name, position)
    left join (select queue, count(*) as depth, extract(epoch from clock_timestamp() - min(run_at)) as latency_s,
                   extract(epoch from clock_timestamp() - min(run_at) filter (where dispatched_at is null))
                       as relay_lag_s
               from jobs where status = 'queued' and run_at <= now() group by queue) due on due.queue = q.name
    left join (select queue, count(*) as running,
                   count(*) filter (where lease_until < clock_timestamp()) as expired
               from jobs where status = 'running' group by queue) held on held.queue = q.name
    order by q.position
""")


@dataclass(frozen=True)
class QueueStats:
    """A queue now. `depth` is the jobs that are due; `latency_s` how long the oldest of them has waited, and
    `relay_lag_s` the oldest not yet handed to RQ; `expired` those of the `running` whose worker is silent."""

    queue: str
    depth: int
    latency_s: float
    relay_lag_s: float
    running: int
    expired: int


def queue_stats() -> list[QueueStats]:
    """Every queue, empty ones too."""
    with db.engine.connect() as connection:
        rows = connection.execute(_QUEUES, {"queues": list(QUEUES)}).all()
    return [
        QueueStats(queue, depth, float(latency_s), float(relay_lag_s), running, expired)
        for queue, depth, latency_s, relay_lag_s, running, expired in rows
    ]
