"""Jobs that delete expired rows and files, due every hour (workers/schedule.py)."""

import logging
import time
from collections.abc import Callable

from dues.accounts.attempts import delete_expired_attempts
from dues.accounts.codes import delete_expired_codes
from dues.accounts.tokens import delete_expired_tokens
from dues.breaker import delete_expired_circuits
from dues.imports.retention import delete_expired_files as delete_expired_import_files
from dues.jobs import Run, kinds
from dues.partitions.upkeep import keep_partitions
from dues.payments.hooks import delete_expired_events as delete_expired_gateway_events
from dues.postgres import transaction
from dues.postgres.changing import Busy, changing
from dues.reports.retention import delete_expired_files
from dues.retention import delete_expired_jobs, delete_expired_keys
from dues.settings import settings
from dues.sync.operations import delete_expired_operations, delete_expired_tombstones
from dues.webhooks.retention import delete_expired_events
from workers.job import job

# The longest that one job runs, in seconds: a backlog of years is deleted by many, and reports get their turn between.
_LONGEST_S = 60.0

log = logging.getLogger(__name__)


@job(kinds.FORGET_KEYS)
def keys(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_keys)


@job(kinds.FORGET_JOBS)
def jobs(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_jobs)


@job(kinds.FORGET_TOKENS)
def tokens(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_tokens)


@job(kinds.FORGET_CODES)
def codes(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_codes)


@job(kinds.FORGET_ATTEMPTS)
def attempts(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_attempts)


@job(kinds.FORGET_REPORT_FILES)
def report_files(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_files)


@job(kinds.FORGET_IMPORT_FILES)
def import_files(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_import_files)


@job(kinds.FORGET_EVENTS)
def events(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_events)


@job(kinds.FORGET_CIRCUITS)
def circuits(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_circuits)


@job(kinds.FORGET_GATEWAY_EVENTS)
def gateway_events(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_gateway_events)


@job(kinds.FORGET_SYNC_OPERATIONS)
def sync_operations(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_operations)


@job(kinds.FORGET_SYNC_TOMBSTONES)
def sync_tombstones(run: Run) -> dict[str, int]:
    return _in_batches(run, delete_expired_tombstones)


@job(kinds.FORGET_PARTITIONS)
def partitions(run: Run) -> dict[str, int]:
    """Not in batches: a month goes whole. Where a migration is under way, it is for the next hour."""
    try:
        with changing(settings(), log.info, give_up_after_s=_LONGEST_S) as session:
            return {"forgotten": keep_partitions(session, settings())}
    except Busy as busy:
        log.info("%s", busy)
        return {"forgotten": 0}


def _in_batches(run: Run, forget: Callable[[], int]) -> dict[str, int]:
    """Call `forget` in one transaction after another until it deletes nothing. Raises: LeaseLost."""
    until, total = time.monotonic() + _LONGEST_S, 0
    while True:
        run.check()
        with transaction():
            count = forget()
        total += count
        if count == 0 or time.monotonic() >= until:
            return {"forgotten": total}
