"""The time: always UTC, always asked for here, so that tests can move it.

`now()` is the real time. `store_now(store_id)` is the time in a store: the real one, unless it is a test store, whose
clock stands still until somebody moves it (dues/stores/clock.py). All that a member pays for asks for the latter.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID

StoreClock = Callable[[UUID], datetime | None]

_store_clock: StoreClock = lambda store_id: None  # noqa: E731  (until a slice above has clocks)


def now() -> datetime:
    return datetime.now(UTC)


def store_now(store_id: UUID) -> datetime:
    return _store_clock(store_id) or now()


def shows_store_time(clock: StoreClock) -> StoreClock:
    """Register who knows the clocks of test stores: `clock(store_id)` is None for a store in real time."""
    global _store_clock
    _store_clock = clock
    return clock


def rfc3339(moment: datetime) -> str:
    """As PostgreSQL writes it in JSON in a UTC session: `2026-11-20T14:39:00.123456+00:00`."""
    return moment.astimezone(UTC).isoformat()
