"""Periods: each is counted from the anchor, and begins at the anchor's local time in the store's time zone.

In a shorter month the day is moved to the month's last day, and returns in the next month: 31 January, 29 February, 31
March. A local time that is skipped when clocks are set forward is moved forward by the same amount; if a local time
occurs twice, the first occurrence counts. Moments are in UTC. A period includes its start and excludes its end.
"""

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

Interval = Literal["once", "week", "month", "year"]
INTERVALS: tuple[Interval, ...] = get_args(Interval)


def boundary(anchor: datetime, timezone: str, interval: Interval, months_or_weeks: int) -> datetime:
    """The moment `months_or_weeks` intervals after the anchor: weeks, months or years, depending on `interval`.

    Raises: ValueError for `once`, which has no periods.
    """
    if months_or_weeks == 0:
        # When clocks are set back, the anchor may be the second of two equal local times.
        return anchor
    zone = ZoneInfo(timezone)
    wall = anchor.astimezone(zone).replace(tzinfo=None)
    match interval:
        case "week":
            wall += timedelta(weeks=months_or_weeks)
        case "month":
            wall = _add_months(wall, months_or_weeks)
        case "year":
            wall = _add_months(wall, 12 * months_or_weeks)
        case "once":
            raise ValueError("what is bought once has no periods")
    return _in_utc(wall, zone)


def add_days(moment: datetime, timezone: str, days: int) -> datetime:
    """The moment that many calendar days later, at the same local time."""
    zone = ZoneInfo(timezone)
    return _in_utc(moment.astimezone(zone).replace(tzinfo=None) + timedelta(days=days), zone)


def _add_months(wall: datetime, months: int) -> datetime:
    year, month = divmod(wall.year * 12 + wall.month - 1 + months, 12)
    return wall.replace(year=year, month=month + 1, day=min(wall.day, monthrange(year, month + 1)[1]))


def _in_utc(wall: datetime, zone: ZoneInfo) -> datetime:
    # With fold=0 a skipped time is read with the offset before the change, which moves it forward (PEP 495).
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
