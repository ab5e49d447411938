"""How long finished and expired rows are kept, and the statements that delete them, a batch at a time.

Each function is part of its caller's transaction(), deletes at most BATCH rows and returns how many: 0 means that none
are left. Files of reports, and tokens, are deleted by their slices; months of tables that are partitioned are emptied
by dues/partitions.
"""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from dues.moving import is_here
from dues.partitions.rows import ONE_BY_ONE, one_by_one
from dues.postgres import fetch_row, is_spread, unit_of_work
from dues.settings import settings

BATCH = 1000

# The contract's time, in which a replay gets the first answer again.
KEYS_KEPT = timedelta(hours=24)

_KEYS = """
    with old as (
        select scope, key from idempotency_keys where created_at < now() - %(kept)s
        order by created_at limit %(most)s for update skip locked),
    gone as (delete from idempotency_keys k using old where k.scope = old.scope and k.key = old.key returning 1)
    select count(*) from gone
"""
_JOBS = f"""
    with old as (
        select id from jobs where finished_at < now() - %(kept)s and {ONE_BY_ONE.format(key="id")}{{and_here}}
        order by finished_at limit %(most)s for update skip locked),
    gone as (delete from jobs using old where jobs.id = old.id returning 1)
    select count(*) from gone
"""
_JOBS_HERE = _JOBS.format(and_here=f" and {is_here('jobs.store_id')}")
# Of jobs, Citus knows nothing: it takes them in no statement that writes and names a table that it knows. Stores do not
# move there.
_JOBS_ALONE = _JOBS.format(and_here="")


def delete_expired_keys() -> int:
    """Idempotency keys whose time is over."""
    return _forget(_KEYS, KEYS_KEPT)


def delete_expired_jobs() -> int:
    """Jobs that ended KEEP_JOBS_DAYS ago; their status URLs answer 404 from then on."""
    kept = timedelta(days=settings().keep_jobs_days)
    return _forget(_JOBS_ALONE if is_spread() else _JOBS_HERE, kept, one_by_one("jobs", kept))


def _forget(statement: str, kept: timedelta, values: Mapping[str, Any] = MappingProxyType({})) -> int:
    unit_of_work()
    (count,) = fetch_row(statement, {"kept": kept, "most": BATCH, **values}) or (0,)
    return int(count)
