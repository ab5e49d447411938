"""Jobs that forget what is over, due every hour (workers/schedule.py)."""

import time
from collections.abc import Callable

from dues.accounts.tokens import forget_expired
from dues.db import transaction
from dues.jobs import Run, kinds
from dues.reports.retention import forget_files
from dues.retention import forget_jobs, forget_keys
from dues.webhooks.retention import forget_events
from workers.job import job

# A backlog of years is worked off in turns, with reports in between.
_LONGEST_S = 60.0


@job(kinds.FORGET_KEYS)
def keys(run: Run) -> dict[str, int]:
    return _in_batches(run, forget_keys)


@job(kinds.FORGET_JOBS)
def jobs(run: Run) -> dict[str, int]:
    return _in_batches(run, forget_jobs)


@job(kinds.FORGET_TOKENS)
def tokens(run: Run) -> dict[str, int]:
    return _in_batches(run, forget_expired)


@job(kinds.FORGET_REPORT_FILES)
def report_files(run: Run) -> dict[str, int]:
    return _in_batches(run, forget_files)


@job(kinds.FORGET_EVENTS)
def events(run: Run) -> dict[str, int]:
    return _in_batches(run, forget_events)


def _in_batches(run: Run, forget: Callable[[], int]) -> dict[str, int]:
    """Call `forget` in one transaction after the other until it finds nothing. Raises: LeaseLost."""
    until, total = time.monotonic() + _LONGEST_S, 0
    while True:
        run.check()
        with transaction():
            count = forget()
        total += count
        if count == 0 or time.monotonic() >= until:
            return {"forgotten": total}
