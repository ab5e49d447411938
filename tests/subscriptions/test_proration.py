"""What a change of package costs: the cases P of the design, to the minor unit."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.subscriptions.calendar import Interval
from dues.subscriptions.proration import Covered, Proration, prorate, share, unused
from dues.subscriptions.terms import Terms
from tests.subscriptions.test_calendar import at

pytestmark = pytest.mark.unit

# Old price and interval, new ones; the period; the moment; credit and debit.
Price = tuple[int, Interval]
CASES: dict[str, tuple[Price, Price, str, str, int, int]] = {
    "P1": ((10000, "month"), (30000, "month"), "2025-06-01 2025-07-01", "2025-06-16", 5000, 15000),
    "P2": ((10000, "month"), (30000, "month"), "2025-06-01 2025-07-01", "2025-06-11", 6667, 20000),
    "P3": ((10000, "month"), (30000, "month"), "2024-02-18 2024-03-18", "2024-02-25", 7586, 22759),
    "P4": ((100000, "year"), (300000, "year"), "2024-08-01 2025-08-01", "2024-10-01", 83288, 249863),
    "P5": ((100000, "year"), (300000, "year"), "2024-02-18 2025-02-18", "2024-09-05", 45355, 136066),
    "P7": ((10000, "month"), (100000, "year"), "2025-06-01 2025-07-01", "2025-06-16", 5000, 100000),
    "P8": ((10000, "month"), (100000, "year"), "2025-06-01 2025-07-01", "2025-06-11", 6667, 100000),
    "P10": ((100000, "year"), (10000, "month"), "2024-02-18 2025-02-18", "2024-04-19", 83333, 10000),
    "P11": ((500, "month"), (2000, "month"), "2025-06-01 2025-07-01", "2025-06-02", 483, 1933),
    "P12": ((2000, "month"), (500, "month"), "2025-06-01 2025-07-01", "2025-06-02", 1933, 483),
    "P13": ((24995, "month"), (59995, "month"), "2016-05-01 2016-06-01", "2016-05-05", 21770, 52254),
    "P16": ((239995, "year"), (24995, "month"), "2012-05-01 2013-05-01", "2012-05-11", 233420, 24995),
    "P17": ((1995, "month"), (2995, "month"), "2012-05-01T10:30 2012-06-01T10:30", "2012-05-01T11:30", 1992, 2991),
    "P18": ((1000, "month"), (3000, "month"), "2025-06-01 2025-07-01", "2025-06-30T23:59:59", 0, 0),
    "P19": ((1000, "month"), (2000, "month"), "2025-06-01 2025-07-01", "2025-06-16T12:00", 483, 967),
    "P21": ((1000, "month"), (3000, "month"), "2025-02-01 2025-03-01", "2025-02-11", 643, 1929),
    "P22": ((10000, "month"), (30000, "month"), "2025-02-01 2025-03-01", "2025-02-11", 6429, 19286),
    "P23": ((5000, "month"), (10000, "month"), "2025-06-01 2025-07-01", "2025-06-16", 2500, 5000),
    "P24 down": ((10000, "month"), (0, "month"), "2025-06-01 2025-07-01", "2025-06-16", 5000, 0),
    "P24 up": ((0, "month"), (10000, "month"), "2025-06-01 2025-07-01", "2025-06-16", 0, 5000),
    "Z9": ((1000, "month"), (3000, "month"), "2025-03-01T05:00 2025-04-01T04:00", "2025-03-16T04:00", 517, 1550),
    "at its first moment": ((1000, "month"), (3000, "month"), "2025-06-01 2025-07-01", "2025-06-01", 1000, 3000),
    "to once": ((1000, "month"), (50000, "once"), "2025-06-01 2025-07-01", "2025-06-16", 500, 50000),
}


def terms(price: Price) -> Terms:
    return Terms(package_id=UUID(int=1), amount=price[0], currency="EUR", interval=price[1])


@pytest.mark.parametrize(("old", "new", "period", "moment", "credit", "debit"), CASES.values(), ids=CASES.keys())
def test_a_change_now(old: Price, new: Price, period: str, moment: str, credit: int, debit: int) -> None:
    start, end = (at(text) for text in period.split())
    covered = Covered(start=start, end=end, charged=old[0])
    found = prorate(terms(old), terms(new), period=(start, end), covered=covered, timezone="UTC", at=at(moment))
    assert (found.credit, found.debit, found.total) == (credit, debit, debit - credit)
    assert found.restarts == (old[1] != new[1])
    assert found.start == at(moment)
    if not found.restarts:
        assert found.end == end


def test_P7_another_interval_begins_now() -> None:
    covered = Covered(start=at("2025-06-01"), end=at("2025-07-01"), charged=10000)
    found = prorate(
        terms((10000, "month")),
        terms((100000, "year")),
        period=(covered.start, covered.end),
        covered=covered,
        timezone="UTC",
        at=at("2025-06-16"),
    )
    assert (found.start, found.end) == (at("2025-06-16"), at("2026-06-16"))


def changes(prices: list[int], moments: list[str]) -> list[Proration]:
    """One change after the other in June 2025, from the first price on."""
    period = at("2025-06-01"), at("2025-07-01")
    covered, found = Covered(start=period[0], end=period[1], charged=prices[0]), []
    for old, new, moment in zip(prices, prices[1:], moments, strict=False):
        one = prorate(
            terms((old, "month")), terms((new, "month")), period=period, covered=covered, timezone="UTC", at=at(moment)
        )
        covered = Covered(start=one.start, end=one.end, charged=one.debit)
        found.append(one)
    return found


def test_P26_back_and_forth_costs_what_was_used() -> None:
    found = changes([10000, 30000, 10000, 30000, 10000], ["2025-06-07", "2025-06-13", "2025-06-19", "2025-06-25"])
    assert [one.total for one in found] == [16000, -12000, 8000, -4000]
    assert 10000 + sum(one.total for one in found) == 18000


def test_P16_there_and_back_in_an_instant_costs_nothing() -> None:
    month, year, moment = terms((24995, "month")), terms((239995, "year")), at("2012-05-11")
    covered = Covered(start=moment, end=at("2012-06-11"), charged=24995)
    found = prorate(month, year, period=(moment, covered.end), covered=covered, timezone="UTC", at=moment)
    assert (found.credit, found.debit, found.end) == (24995, 239995, at("2013-05-11"))
    assert 239995 - 24995 - (233420 - 24995) == 6575


@pytest.mark.parametrize(
    ("charged", "refunded", "expected"),
    [(10000, 0, 5000), (10000, 3000, 5000), (10000, 8000, 2000), (10000, 10000, 0), (0, 0, 0)],
)
def test_nobody_is_given_back_what_they_did_not_pay(charged: int, refunded: int, expected: int) -> None:
    june = Covered(start=at("2025-06-01"), end=at("2025-07-01"), charged=charged, refunded=refunded)
    assert unused(june, at("2025-06-16")) == expected


def test_what_has_no_end_or_is_over_has_no_unused_share() -> None:
    assert unused(Covered(start=at("2025-06-01"), end=None, charged=100), at("2025-06-16")) == 0
    assert unused(Covered(start=at("2025-06-01"), end=at("2025-07-01"), charged=100), at("2025-07-01")) == 0
    assert unused(None, at("2025-07-01")) == 0


SECONDS = st.integers(1, 366 * 86400)


@given(st.integers(0, 10**12), SECONDS, SECONDS)
def test_two_shares_differ_from_the_whole_by_one_at_most(amount: int, one: int, other: int) -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    first, whole = (datetime.fromtimestamp(start.timestamp() + s, UTC) - start for s in (one, one + other))
    parts = share(amount, first, whole) + share(amount, whole - first, whole)
    assert abs(parts - amount) <= 1
    assert share(-amount, first, whole) == -share(amount, first, whole)
    assert share(amount, whole, whole) == amount
