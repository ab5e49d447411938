"""Months, and the ids that bound them: a UUIDv7 begins with its time, in milliseconds."""

from collections.abc import Iterator
from datetime import UTC, datetime
from uuid import UUID

NO_ID_BELOW, NO_ID_ABOVE = UUID(int=0), UUID(int=(1 << 128) - 1)


def month_of(moment: datetime) -> datetime:
    """The beginning of its month, in UTC."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def next_month(month: datetime) -> datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def months_from(moment: datetime, count: int) -> Iterator[datetime]:
    """The month of a moment, and those that follow: `count` in all."""
    month = month_of(moment)
    for _ in range(count):
        yield month
        month = next_month(month)


def floor_id(moment: datetime) -> UUID:
    """What is not greater than any id that is made from `moment` on, and greater than all before."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)


def moment_of(made: UUID) -> datetime:
    """When an id was made, as it says itself."""
    return datetime.fromtimestamp((made.int >> 80) / 1000, UTC)


def label(month: datetime) -> str:
    """As names of partitions have it: `2026_11`."""
    return f"{month:%Y_%m}"
