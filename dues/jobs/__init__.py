"""Slow work: asked for in the transaction that needs it, done by workers, followed by a status URL.

    kinds.py          the one table of kinds
    queues.py         what the settings say about queues
    outbox.py         asking for a job: a row
    turns.py          whose job is next: stores take turns
    lease.py          claiming, keeping, finishing and giving back one attempt
    attempt.py        what a job's handler is given
    exceptions.py     what a handler may raise
    on_failure.py     how a slice hears that a job has failed
    status.py         the status document
    service.py        following and canceling
    batching.py       doing several jobs of a kind at once
    stats.py          how far behind the queues are, and how many workers would keep up
    admin.py          what operators may do; commands.py: `flask jobs`
    notifications.py  the hints that let the relay, and those who wait, look at once

PostgreSQL holds the truth. The relay (workers/relay.py) wakes workers through RQ when something is due, and they
(workers/job.py) claim it from PostgreSQL.
"""

from dues.jobs.attempt import Completion, Run
from dues.jobs.exceptions import Canceled, PermanentFailure, Retry
from dues.jobs.kinds import Kind
from dues.jobs.lease import LeaseLost
from dues.jobs.on_failure import Ending, when_ended
from dues.jobs.outbox import enqueue

__all__ = [
    "Canceled",
    "Completion",
    "Ending",
    "Kind",
    "LeaseLost",
    "PermanentFailure",
    "Retry",
    "Run",
    "enqueue",
    "when_ended",
]
