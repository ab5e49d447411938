"""Operations that a client did while it was offline. Each is carried out once, however often it is sent.

For 90 days it is recorded that an operation was done and on which row, but not what was answered: the client gets the
row's present state when it pulls.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from dues.postgres import array_text, fetch_row, run_later
from dues.retention import BATCH

KEPT = timedelta(days=90)
# A day longer than cursors are valid, because a transaction may have deleted a row long before it committed.
TOMBSTONES_KEPT = KEPT + timedelta(days=1)

# As for Idempotency-Keys (api/idempotency.py): a request that waited for the lock sees what its holder has stored.
_LOCK = """
    select set_config('dues.has_op',
        pg_try_advisory_xact_lock(hashtextextended('sync ' || %(user_id)s::text || ' ' || %(id)s::text, 0))::text, true)
"""
# The triggers record which operation has changed a row.
_BEGIN = "select set_config('dues.sync_op', %(id)s, true)"
_FIND = """
    select current_setting('dues.has_op')::bool, o.request_hash, o.status, o.resource_id, o.version, o.location
    from (select) one left join sync_operations o on o.user_id = %(user_id)s::uuid and o.id = %(id)s::uuid
"""
_KEEP = """
    insert into sync_operations(user_id, id, request_hash, status, resource_id, version, location)
    values (%(user_id)s, %(id)s, %(request_hash)s, %(status)s, %(resource_id)s, %(version)s, %(location)s)
"""
_DONE = """
    select array_agg(o.id::text), array_agg(o.resource_id::text) from sync_operations o
    where o.user_id = %(user_id)s::uuid and o.id = any(%(ids)s::uuid[])
"""
_FORGET = """
    with old as (
        select user_id, id from sync_operations where created_at < now() - %(kept)s
        order by created_at limit %(most)s for update skip locked),
    gone as (delete from sync_operations o using old where o.user_id = old.user_id and o.id = old.id returning 1)
    select count(*) from gone
"""
_FORGET_GONE = """
    with old as (
        select stream_id, type, id from sync_changes where gone_at < now() - %(kept)s
        order by gone_at limit %(most)s for update skip locked),
    gone as (
        delete from sync_changes c using old
        where c.stream_id = old.stream_id and c.type = old.type and c.id = old.id returning 1)
    select count(*) from gone
"""


@dataclass(frozen=True)
class Done:
    """An operation that was done: the status of its answer, and the row that it changed, if that has an id."""

    status: int
    resource_id: UUID | None = None
    version: int | None = None
    location: str | None = None


@dataclass(frozen=True)
class Found:
    """What is known about an operation. `is_running`: another request is carrying it out now."""

    is_running: bool
    request_hash: bytes
    done: Done | None


def begin(user_id: UUID, op_id: UUID) -> Found:
    """Lock an operation until the present unit of work ends, and look up whether it was done."""
    named = {"user_id": str(user_id), "id": str(op_id)}
    run_later(_LOCK, named)
    run_later(_BEGIN, named)
    row = fetch_row(_FIND, named, hot=True)
    assert row
    has_lock, request_hash, status, resource_id, version, location = row
    done = Done(status, resource_id and UUID(str(resource_id)), version, location) if status else None
    return Found(not has_lock, bytes(request_hash or b""), done)


def keep(user_id: UUID, op_id: UUID, request_hash: bytes, done: Done) -> None:
    """Record that an operation was done. Part of the unit of work that does it."""
    values = {
        "user_id": str(user_id),
        "id": str(op_id),
        "request_hash": request_hash,
        "status": done.status,
        "resource_id": done.resource_id and str(done.resource_id),
        "version": done.version,
        "location": done.location,
    }
    run_later(_KEEP, values)


def find_done(user_id: UUID, op_ids: set[UUID]) -> dict[UUID, UUID | None]:
    """Which of these operations were done, with the ids of their rows."""
    if not op_ids:
        return {}
    wanted = array_text(map(str, op_ids))
    ids, resource_ids = fetch_row(_DONE, {"user_id": str(user_id), "ids": wanted}) or (None, None)
    pairs = zip(ids or (), resource_ids or (), strict=True)
    return {UUID(op_id): resource_id and UUID(resource_id) for op_id, resource_id in pairs}


def delete_expired_operations() -> int:
    """Delete a batch of operations that are older than 90 days. Part of the caller's transaction(). Returns: how many;
    0 when none is left."""
    return _forget(_FORGET, KEPT)


def delete_expired_tombstones() -> int:
    """Delete a batch of changes that record deleted rows and that every client with a valid cursor has received. Part
    of the caller's transaction(). Returns: how many; 0 when none is left."""
    return _forget(_FORGET_GONE, TOMBSTONES_KEPT)


def _forget(statement: str, kept: timedelta) -> int:
    (count,) = fetch_row(statement, {"kept": kept, "most": BATCH}) or (0,)
    return int(count)
