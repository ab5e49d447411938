"""The clocks of test stores: each stands still until it is moved, forward only, over any distance.

A real store has no row here and lives in real time. Moving a clock is slow work, since all that falls due on the way is
done in order; meanwhile whatever else would write to the store is refused (`require_still`).
"""

from datetime import datetime
from functools import lru_cache
from uuid import UUID

from msgspec import Struct

from dues.clock import Moment, now, rfc3339, shows_store_time
from dues.errors import Conflict, ValidationFailed
from dues.jobs import Ending, enqueue, kinds, when_ended
from dues.postgres import db, fetch_row
from dues.reads.tags import touch
from dues.stores.models import Clock

# No membership outlasts this, and the calendar goes on for as long as its longest period after it.
_FIRST_YEAR, _LAST_YEAR = 1970, 2999

_READ = "select moment from store_clocks where store_id = %(store_id)s"
_IS_TEST = "select test from stores where id = %(store_id)s"
_IS_STILL = "select advancing_to from store_clocks where store_id = %(store_id)s for share"


class ClockTime(Struct, forbid_unknown_fields=True):
    """The time that a test store's clock is to show."""

    now: Moment


@shows_store_time
def read_clock(store_id: UUID) -> datetime | None:
    """What a test store's clock shows; None for a store that lives in real time."""
    if not is_test(store_id):
        return None
    row = fetch_row(_READ, {"store_id": store_id}, hot=True)
    return row[0] if row else None


@lru_cache(maxsize=10_000)
def is_test(store_id: UUID) -> bool:
    """Whether a store is a test store, which it is from its beginning or never."""
    row = fetch_row(_IS_TEST, {"store_id": store_id})
    return bool(row and row[0])


def start_clock(store_id: UUID) -> None:
    """A new test store's clock shows the present time."""
    db.session.add(Clock(store_id=store_id, moment=now()))
    touch(f"store:{store_id}:clock")


def require_still(store_id: UUID) -> None:
    """Keep a test store's clock from being moved until the caller's transaction ends.

    Raises: Conflict while it is being moved.
    """
    row = fetch_row(_IS_STILL, {"store_id": store_id})
    if row and row[0]:
        raise Conflict("the store's clock is being moved", code="clock_advancing", headers={"Retry-After": "1"})


def lock_clock(store_id: UUID) -> Clock:
    """A store's clock, locked for this transaction. Raises: Conflict for a store in real time."""
    clock = db.session.get(Clock, store_id, with_for_update=True, populate_existing=True)
    if clock is None:
        raise Conflict("only a test store has a clock that can be moved", code="not_a_test_store")
    return clock


def move_clock(store_id: UUID, moved_by: UUID, to: datetime) -> UUID:
    """Have a job move a test store's clock to a time that is not before what it shows. Returns: the job's id.

    Raises: ValidationFailed for a time beyond the calendar; Conflict for one that has passed, while the clock is
    moving, or for a store in real time.
    """
    if not _FIRST_YEAR <= to.year <= _LAST_YEAR:
        raise ValidationFailed.of("#/now", f"must be a time from {_FIRST_YEAR} to {_LAST_YEAR}", "range")
    clock = lock_clock(store_id)
    if clock.advancing_to is not None:
        raise Conflict("the store's clock is being moved already", code="clock_advancing")
    if to < clock.moment:
        raise Conflict("a clock is never set back", code="clock_set_back")
    clock.advancing_to = to
    clock.job_id = enqueue(
        kinds.STORE_CLOCK,
        {"store_id": str(clock.store_id), "began_at": rfc3339(clock.moment)},
        owner_id=moved_by,
        store_id=clock.store_id,
    )
    touch(f"store:{clock.store_id}:clock")
    return clock.job_id


def arrive(store_id: UUID) -> None:
    """A clock shows the time that it was moved to. Part of the caller's transaction()."""
    clock = lock_clock(store_id)
    if clock.advancing_to is not None:
        clock.moment, clock.advancing_to = clock.advancing_to, None
    touch(f"store:{store_id}:clock")


@when_ended(kinds.STORE_CLOCK)
def stop(ending: Ending) -> None:
    """The clock stays where it has come to."""
    store_id = UUID(ending.args["store_id"])
    lock_clock(store_id).advancing_to = None
    touch(f"store:{store_id}:clock")
