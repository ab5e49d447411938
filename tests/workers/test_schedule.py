"""What is due again and again is enqueued once for each slot, whoever looks."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from flask import Flask

from dues.jobs import Kind
from tests.factory import Factory
from tests.jobs.conftest import Jobs
from workers.schedule import SCHEDULE, every, tick_once

SWEEP = Kind("test.sweep", "default")
EACH_MINUTE = (every(60, SWEEP, {"all": True}),)
NOON = datetime(2026, 11, 20, 12, 0, 30, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.moment = NOON

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("workers.schedule.database_now", clock)
    return clock


def finish_all(make: Factory) -> None:
    make.rows("update jobs set status = 'succeeded', finished_at = now()")


def test_a_slot_is_one_job_with_its_tick(jobs: Jobs, make: Factory, clock: Clock):
    assert tick_once(EACH_MINUTE) == 1
    assert tick_once(EACH_MINUTE) == 0
    clock.moment += timedelta(seconds=29)
    assert tick_once(EACH_MINUTE) == 0
    tick = make.rows("select * from schedule_ticks")[0]
    assert (tick.name, tick.due_at) == ("test.sweep", datetime(2026, 11, 20, 12, 0, tzinfo=UTC))
    assert jobs.row(tick.job_id).args == {"all": True}


def test_a_relay_whose_clock_is_fast_begins_nothing_early(jobs: Jobs, make: Factory):
    daily = (every(86_400, SWEEP),)
    tick_once(daily)
    finish_all(make)
    with time_machine.travel(datetime.now(UTC) + timedelta(days=3), tick=False):
        # The day may have ended meanwhile; three have not.
        assert tick_once(daily) <= 1
        assert make.value("select max(due_at) <= now() from schedule_ticks")


def test_the_next_slot_is_another(jobs: Jobs, make: Factory, clock: Clock):
    tick_once(EACH_MINUTE)
    finish_all(make)
    clock.moment += timedelta(seconds=30)
    assert tick_once(EACH_MINUTE) == 1
    assert make.value("select count(*) from jobs") == 2


def test_slots_missed_while_all_relays_were_down_are_caught_up_with_once(jobs: Jobs, make: Factory, clock: Clock):
    tick_once(EACH_MINUTE)
    finish_all(make)
    clock.moment += timedelta(hours=5)
    assert tick_once(EACH_MINUTE) == 1
    assert tick_once(EACH_MINUTE) == 0


def test_a_job_that_still_waits_stands_in_for_the_next(jobs: Jobs, make: Factory, clock: Clock):
    tick_once(EACH_MINUTE)
    clock.moment += timedelta(minutes=1)
    assert tick_once(EACH_MINUTE) == 1
    assert make.value("select count(*) from jobs") == 1
    assert make.value("select count(distinct job_id) from schedule_ticks") == 1


def test_many_relays_make_one_job_of_a_slot(in_app: Flask, make: Factory, clock: Clock):
    def tick(_: int) -> int:
        with in_app.app_context():
            return tick_once(EACH_MINUTE)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(tick, range(16))) == 1
    assert make.value("select count(*) from jobs") == 1


def test_a_relay_whose_clock_is_slow_finds_the_slot_taken(jobs: Jobs, make: Factory, clock: Clock):
    tick_once(EACH_MINUTE)
    finish_all(make)
    clock.moment += timedelta(minutes=1)
    tick_once(EACH_MINUTE)
    finish_all(make)
    clock.moment -= timedelta(minutes=1)
    assert tick_once(EACH_MINUTE) == 0


def test_old_ticks_are_forgotten(jobs: Jobs, make: Factory, clock: Clock):
    tick_once(EACH_MINUTE)
    clock.moment += timedelta(days=2)
    tick_once(EACH_MINUTE)
    assert make.value("select count(*) from schedule_ticks") == 1


def test_names_are_unique():
    names = [entry.name for entry in SCHEDULE]
    assert len(set(names)) == len(names)
