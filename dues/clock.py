"""The time: always UTC, always asked for here, so that tests can move it; read and written in one way.

`now()` is the real time. `store_now(store_id)` is the time in a store: the real one, unless it is a test store, whose
clock stands still until somebody moves it (dues/stores/clock.py). All that a member pays for asks for the latter.

Every time that goes out is written as `2026-11-20T14:39:00.123456+00:00`, by Python and by PostgreSQL alike, with all
six digits of its microseconds: readers of ISO 8601 that know only some numbers of digits are common.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from dues.errors import InvalidValue

StoreClock = Callable[[UUID], datetime | None]

_store_clock: StoreClock = lambda store_id: None  # noqa: E731  (until a slice above has clocks)

# A `+` that was not encoded arrives in a query string as a blank; where an offset is to follow it can be nothing else.
_BLANK_FOR_PLUS = re.compile(r" (?=\d\d:?\d\d$)", re.ASCII)


def now() -> datetime:
    return datetime.now(UTC)


def store_now(store_id: UUID) -> datetime:
    return _store_clock(store_id) or now()


def shows_store_time(clock: StoreClock) -> StoreClock:
    """Register the function that knows the clocks of test stores: None for a store in real time."""
    global _store_clock
    _store_clock = clock
    return clock


def rfc3339(moment: datetime) -> str:
    """`2026-11-20T14:39:00.123456+00:00`"""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def day_in(moment: datetime, timezone: str) -> str:
    """For people: `20 November 2026`, in an IANA time zone."""
    there = moment.astimezone(UTC if timezone == "UTC" else ZoneInfo(timezone))
    return f"{there.day} {there:%B %Y}"


def sql_rfc3339(timestamptz: str) -> str:
    """SQL that writes a timestamptz, an SQL expression itself, as `rfc3339` does, whatever the session's time zone."""
    return f"to_char({timestamptz} at time zone interval '0', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"+00:00\"')"


def in_utc(moment: datetime) -> datetime:
    """Raises: InvalidValue for a time that is beyond the years 1 to 9999 in UTC."""
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise InvalidValue("range", "must be a time of the years 1 to 9999 in UTC") from None


# In UTC from the moment it is decoded on: PostgreSQL knows no offsets of 16 hours and more, RFC 3339 does.
Moment = Annotated[
    datetime,
    Meta(
        tz=True,
        description="RFC 3339 time with its offset, such as 2026-11-20T14:39:00Z",
        extra={"normalize": in_utc},
    ),
]


def parse_moment(parameter: str) -> datetime:
    """The time that a parameter of a URL writes, read as one in a body is. Raises: InvalidValue."""
    try:
        moment: datetime = msgspec.convert(_BLANK_FOR_PLUS.sub("+", parameter), Moment)
    except msgspec.ValidationError:
        example = "2026-11-20T14:39:00Z"
        raise InvalidValue("format", f"is not an RFC 3339 time with its offset, such as {example}") from None
    return in_utc(moment)
