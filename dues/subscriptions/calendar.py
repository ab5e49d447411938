"""Periods: each is counted from the anchor, at the anchor's wall time in the store's time zone.

The day is clipped to the end of a shorter month, and comes back in the next: 31 January, 29 February, 31 March. A wall
time that a change of the clocks skips is moved forward by what was skipped; of one that comes twice it is the first.
Moments are in UTC. A period is half-open: it holds its start, and not its end.
"""

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args
from zoneinfo import ZoneInfo

Interval = Literal["once", "week", "month", "year"]
INTERVALS: tuple[Interval, ...] = get_args(Interval)


def boundary(anchor: datetime, timezone: str, interval: Interval, months_or_weeks: int) -> datetime:
    """The moment so many weeks, months or years after the anchor; `interval` says which.

    Raises: ValueError for `once`, which has no periods.
    """
    if months_or_weeks == 0:
        # Where clocks are set back, the anchor may be the second of two equal wall times.
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
    """So many calendar days later, at the same wall time."""
    zone = ZoneInfo(timezone)
    return _in_utc(moment.astimezone(zone).replace(tzinfo=None) + timedelta(days=days), zone)


def _add_months(wall: datetime, months: int) -> datetime:
    year, month = divmod(wall.year * 12 + wall.month - 1 + months, 12)
    return wall.replace(year=year, month=month + 1, day=min(wall.day, monthrange(year, month + 1)[1]))


def _in_utc(wall: datetime, zone: ZoneInfo) -> datetime:
    # With fold=0 a time that is skipped is read with the offset before the change, which moves it forward (PEP 495).
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
