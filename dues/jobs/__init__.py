"""Slow work: asked for in the transaction that needs it, done by workers, followed by a status URL.

    kinds.py      the one table of kinds
    outbox.py     asking for a job: a row
    lease.py      claiming, keeping, finishing and giving back one attempt
    run.py        what a job's body is given; outcomes.py: what it may raise; endings.py: how a slice hears of failure
    status.py     the status document
    service.py    following and canceling
    alike.py      doing several jobs of a kind at once
    stats.py      how far behind the queues are, and how many workers would keep up
    operations.py what operators may do; commands.py: `flask jobs`
    wake.py       the hints that let the relay, and those who wait, look at once

PostgreSQL holds the truth; the relay (workers/relay.py) hands what is due to RQ, and workers (workers/job.py) claim it.
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
