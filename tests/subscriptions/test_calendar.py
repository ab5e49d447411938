"""Periods: the cases D and Z of the design, and that they hold for every anchor."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.subscriptions.calendar import Interval, add_days, boundary
from dues.subscriptions.terms import Terms

pytestmark = pytest.mark.unit


def at(text: str) -> datetime:
    """`2024-01-31` is midnight; times are UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def terms(interval: Interval, count: int = 1) -> Terms:
    return Terms(package_id=UUID(int=1), amount=1000, currency="EUR", interval=interval, interval_count=count)


def boundaries(start: str, interval: Interval, count: int = 1, zone: str = "UTC") -> Iterator[datetime]:
    """The ends of the periods, one after the other."""
    number, kind = 0, terms(interval, count)
    while True:
        yield kind.period(at(start), zone, number)[1]
        number += 1


D2 = "2023-01-31 2023-02-28 2023-03-31 2023-04-30 2023-05-31 2023-06-30 2023-07-31 2023-08-31 2023-09-30 2023-10-31"
D3 = "2022-05-30 2022-06-30 2022-07-30 2022-08-30 2022-09-30 2022-10-30 2022-11-30 2022-12-30 2023-01-30 2023-02-28"
Z1 = "2015-10-01T08:01:01 2015-11-01T08:01:01 2015-12-01T09:01:01 2016-01-01T09:01:01 2016-02-01T09:01:01"
CASES = {
    "D1": ("2024-01-31", "month", 1, "UTC", "2024-02-29 2024-03-31 2024-04-30 2024-05-31"),
    "D2": ("2022-12-31", "month", 1, "UTC", f"{D2} 2023-11-30 2023-12-31 2024-01-31 2024-02-29 2024-03-31"),
    "D3": ("2022-04-30", "month", 1, "UTC", f"{D3} 2023-03-30 2023-04-30"),
    "D5": ("2023-03-31", "month", 1, "UTC", "2023-04-30 2023-05-31"),
    "D7": ("2024-01-31", "year", 1, "UTC", "2025-01-31"),
    "D8": ("2024-01-30", "month", 1, "UTC", "2024-02-29 2024-03-30 2024-04-30"),
    "D13": ("2012-04-30", "month", 1, "UTC", "2012-05-30"),
    "leap year": ("2024-02-29", "year", 1, "UTC", "2025-02-28 2026-02-28 2027-02-28 2028-02-29"),
    "quarter": ("2023-11-30", "month", 3, "UTC", "2024-02-29 2024-05-30 2024-08-30"),
    "fortnight": ("2024-02-20", "week", 2, "UTC", "2024-03-05 2024-03-19"),
    "Z1": ("2015-09-01T08:01:01", "month", 1, "America/Juneau", f"{Z1} 2016-03-01T09:01:01 2016-04-01T08:01:01"),
    "Z2": ("2015-11-01T07:01:01", "month", 1, "America/Los_Angeles", "2015-12-01T08:01:01"),
    "Z6": ("2023-02-02T00:00", "month", 1, "Asia/Kolkata", "2023-03-02T00:00"),
    "Z7": ("2023-02-02T05:00", "month", 1, "America/Bogota", "2023-03-02T05:00"),
    "Z9": ("2025-03-01T05:00", "month", 1, "America/New_York", "2025-04-01T04:00"),
    # 02:30 does not exist on 10 March 2024, and 01:30 comes twice on 3 November 2024.
    "skipped hour": ("2024-03-03T07:30", "week", 1, "America/New_York", "2024-03-10T07:30 2024-03-17T06:30"),
    "doubled hour": ("2024-10-27T05:30", "week", 1, "America/New_York", "2024-11-03T05:30 2024-11-10T06:30"),
    "second of the doubled hour": ("2024-11-03T06:30", "week", 1, "America/New_York", "2024-11-10T06:30"),
    # Samoa had no 30 December 2011.
    "skipped day": ("2011-11-30T21:00", "month", 1, "Pacific/Apia", "2011-12-30T21:00 2012-01-29T21:00"),
}


@pytest.mark.parametrize(("start", "interval", "count", "zone", "ends"), CASES.values(), ids=CASES.keys())
def test_ends_of_periods(start: str, interval: Interval, count: int, zone: str, ends: str) -> None:
    wanted = [at(end) for end in ends.split()]
    found = boundaries(start, interval, count, zone)
    assert [next(found) for _ in wanted] == wanted


def test_D1_a_year_of_months_from_the_31st() -> None:
    ends = list(zip(range(13), boundaries("2024-01-31", "month"), strict=False))
    assert ends[12][1] == at("2025-02-28")


def test_D9_at_boundary_n_the_next_period_begins() -> None:
    """One day before, on and one day after boundary n: n, n + 1 and n + 1 periods have begun."""
    kind, anchor = terms("month"), at("2011-01-31")
    starts = [kind.period(anchor, "UTC", number)[0] for number in range(14)]
    for n in range(1, 13):
        for days, expected in ((-1, n), (0, n + 1), (1, n + 1)):
            moment = starts[n] + timedelta(days=days)
            assert sum(start <= moment for start in starts) == expected


def test_D12_what_is_bought_once_has_no_period() -> None:
    with pytest.raises(ValueError, match="no periods"):
        terms("once").period(at("2024-01-31"), "UTC", 0)


@pytest.mark.parametrize(
    ("start", "zone", "days", "end"),
    [
        pytest.param("2024-01-31", "UTC", 30, "2024-03-01", id="D14"),
        pytest.param("2024-03-05T12:12", "UTC", 10, "2024-03-15T12:12", id="T1"),
        pytest.param("2024-04-28T12:00", "UTC", 7, "2024-05-05T12:00", id="T2"),
        pytest.param("2024-03-05T12:12", "UTC", 45, "2024-04-19T12:12", id="T9"),
        pytest.param("2017-03-02T07:30", "America/Los_Angeles", 30, "2017-04-01T06:30", id="Z8"),
    ],
)
def test_days_of_a_trial_are_calendar_days(start: str, zone: str, days: int, end: str) -> None:
    assert add_days(at(start), zone, days) == at(end)


def test_Z8_after_the_trial_the_month_keeps_its_hour() -> None:
    kind, anchor = terms("month"), at("2017-04-01T06:30")
    zone = "America/Los_Angeles"
    assert kind.period(anchor, zone, 0) == (anchor, at("2017-05-01T06:30"))
    assert anchor.astimezone(ZoneInfo(zone)).day == 31


ZONES = st.sampled_from(["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu"])
ANCHORS = st.datetimes(datetime(1990, 1, 1), datetime(2080, 1, 1), timezones=st.just(UTC))


@given(ANCHORS, ZONES, st.sampled_from(["week", "month", "year"]), st.integers(1, 24), st.integers(0, 60))
def test_periods_follow_one_another_without_a_gap(
    anchor: datetime, zone: str, interval: Interval, count: int, number: int
) -> None:
    kind = terms(interval, count)
    start, end = kind.period(anchor, zone, number)
    assert start < end
    assert kind.period(anchor, zone, number + 1)[0] == end
    assert start >= anchor


@given(ANCHORS, ZONES, st.integers(1, 200))
def test_a_boundary_has_the_anchors_day_and_hour_wherever_they_exist(anchor: datetime, zone: str, months: int) -> None:
    place = ZoneInfo(zone)
    wall, found = anchor.astimezone(place), boundary(anchor, zone, "month", months).astimezone(place)
    month = wall.month - 1 + months
    assert (found.year, found.month) == (wall.year + month // 12, month % 12 + 1)
    assert found.day == wall.day or (found + timedelta(days=1)).day == 1
    if found.replace(tzinfo=None) != found.replace(tzinfo=None, hour=wall.hour, minute=wall.minute):
        # Only where the clocks were put forward over it.
        assert found.utcoffset() != (found - timedelta(hours=2)).utcoffset()
