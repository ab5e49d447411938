"""What a job's body is given: progress that never goes back, and a completion that commits with its work."""

from contextlib import suppress
from datetime import datetime

import pytest

from dues.jobs import Canceled, LeaseLost, Run
from dues.jobs.attempt import _Progress
from tests.factory import Factory
from tests.jobs.conftest import Jobs
from tests.jobs.test_lease import write_a_row


@pytest.fixture
def run(jobs: Jobs) -> Run:
    return Run(*jobs.claimed())


class Clock:
    """A stand-in for the `time` module of dues/jobs/attempt.py."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("dues.jobs.attempt.time", clock)
    return clock


def test_progress_is_written_at_most_twice_a_second(run: Run, jobs: Jobs, clock: Clock):
    for completed in range(1, 101):
        run.progress(completed, 200, "rows")
        clock.seconds += 1 / 128
    row = jobs.row(run.job_id)
    assert row.progress["completed"] == 65
    assert row.version == 2 + 2


def test_progress_never_goes_back_not_even_in_a_second_attempt(jobs: Jobs, clock: Clock):
    job_id = jobs.add()
    run = Run(*jobs.claimed(job_id))
    shown = []
    for completed, total in [(10, 100), (30, 100), (20, 100), (30, 200), (31, 100)]:
        clock.seconds += 1
        run.progress(completed, total, "rows")
        shown.append(jobs.row(job_id).progress["completed"])
    assert shown == [10, 30, 30, 30, 31]
    run.lease.give_back()
    again = Run(*jobs.claimed(job_id))
    for completed in (0, 20, 40):
        clock.seconds += 1
        again.progress(completed, 100, "rows")
        shown.append(jobs.row(job_id).progress["completed"])
    assert shown[5:] == [31, 31, 40]


def test_progress_ends_at_all_of_it(run: Run, jobs: Jobs, clock: Clock):
    run.progress(10, 100, "rows")
    run.progress(90, 100, "rows")
    with run.completion():
        pass
    assert jobs.row(run.job_id).progress == {"completed": 100, "total": 100, "unit": "rows", "eta": None}


def test_a_job_that_reported_nothing_shows_nothing(run: Run, jobs: Jobs):
    run.complete(None)
    assert jobs.row(run.job_id).progress is None


def test_when_the_rest_will_be_done_follows_from_the_pace_of_this_attempt(clock: Clock, monkeypatch):
    now = datetime.fromisoformat("2026-11-20T12:00:00+00:00")
    monkeypatch.setattr("dues.jobs.attempt.now", lambda: now)
    progress = _Progress({"completed": 50, "total": 100, "unit": "rows"})
    progress.advance(50, 100, "rows")
    assert progress.document()["eta"] is None
    clock.seconds += 10
    progress.advance(60, 100, "rows")
    assert progress.document()["eta"] == "2026-11-20T12:00:40.000000+00:00"


@pytest.mark.parametrize("total", [0, 5])
def test_there_may_be_nothing_to_do(run: Run, jobs: Jobs, total: int):
    run.progress(total + 3, total, "rows")
    assert jobs.row(run.job_id).progress["completed"] == total


def test_a_request_to_cancel_is_seen_at_the_next_report(run: Run, jobs: Jobs, clock: Clock):
    run.progress(1, 100, "rows")
    jobs.change(run.job_id, "cancel_requested_at = now()")
    run.progress(2, 100, "rows")
    clock.seconds += 0.6
    with pytest.raises(Canceled):
        run.progress(3, 100, "rows")


def test_a_report_finds_out_that_the_lease_is_lost(run: Run, jobs: Jobs):
    jobs.expire(run.job_id)
    jobs.claimed(run.job_id)
    with pytest.raises(LeaseLost):
        run.progress(1, 100, "rows")


def test_completion_commits_the_work_and_the_success_together(run: Run, jobs: Jobs, make: Factory):
    with run.completion() as completion:
        write_a_row()
        completion.result = {"href": "/v1/x", "type": "text/csv"}
        assert jobs.row(run.job_id).status == "running"
    assert run.completed
    assert make.value("select count(*) from users") == 1
    row = jobs.row(run.job_id)
    assert (row.status, row.result) == ("succeeded", {"href": "/v1/x", "type": "text/csv"})


def test_completion_that_fails_commits_neither(run: Run, jobs: Jobs, make: Factory):
    with suppress(ZeroDivisionError), run.completion():
        write_a_row()
        1 / 0  # noqa: B018
    assert not run.completed
    assert make.value("select count(*) from users") == 0
    assert jobs.row(run.job_id).status == "running"


def test_completion_without_the_lease_commits_neither(run: Run, jobs: Jobs, make: Factory):
    jobs.expire(run.job_id)
    jobs.claimed(run.job_id)
    with pytest.raises(LeaseLost), run.completion({"by": "zombie"}):
        write_a_row()
    assert make.value("select count(*) from users") == 0
    assert jobs.row(run.job_id).result is None
