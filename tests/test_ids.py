"""Ids: their time is when they were made, and those of one process are in the order in which they were."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import time_machine

from dues import ids
from dues.ids import new_id

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A_DAY = timedelta(days=1)


def made_at(made: UUID) -> datetime:
    return datetime.fromtimestamp((made.int >> 80) / 1000, UTC)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[time_machine.Traveller]:
    monkeypatch.setattr(ids, "_last", 0)
    with time_machine.travel(NOW, tick=False) as clock:
        yield clock


def test_each_is_a_uuid_of_version_7_with_its_time():
    made = new_id()
    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made_at(made) == NOW


def test_at_the_same_moment_each_is_greater_than_the_one_before():
    made = [new_id() for _ in range(10_000)]
    assert made == sorted(set(made))
    assert made_at(made[-1]) - NOW < timedelta(milliseconds=4)


@pytest.mark.parametrize("by", [timedelta(milliseconds=1), timedelta(seconds=9)])
def test_a_clock_that_is_set_back_a_little_changes_no_order(clock: time_machine.Traveller, by: timedelta):
    before = new_id()
    clock.move_to(NOW - by)
    assert new_id() > before


def test_after_a_clock_that_was_a_day_fast_they_have_their_time_again(clock: time_machine.Traveller):
    """Or what this process makes would come after all that others make, for a day."""
    clock.move_to(NOW + A_DAY)
    assert made_at(new_id()) == NOW + A_DAY
    clock.move_to(NOW)
    first = new_id()
    assert made_at(first) == NOW
    clock.shift(timedelta(seconds=1))
    assert new_id() > first
