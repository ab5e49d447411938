"""What those who scale workers watch."""

import pytest

from dues.jobs import Kind
from dues.jobs.stats import queue_stats
from tests.jobs.conftest import QUICK, Jobs


def test_queues_that_are_empty_are_there_too(jobs: Jobs):
    stats = queue_stats()
    assert [found.queue for found in stats] == ["critical", "default", "slow", "webhooks"]
    assert all((found.depth, found.latency_s, found.running, found.expired) == (0, 0, 0, 0) for found in stats)


def test_depth_latency_and_silent_workers(jobs: Jobs):
    waiting, handed_over, later = (jobs.add() for _ in range(3))
    jobs.change(waiting, "run_at = now() - interval '10 s'")
    jobs.change(handed_over, "run_at = now() - interval '60 s', dispatched_at = now()")
    jobs.change(later, "run_at = now() + interval '60 s'")
    jobs.claimed()
    jobs.expire(jobs.claimed()[0].job_id)
    jobs.add(Kind("test.slow", "slow"))
    found = {stats.queue: stats for stats in queue_stats()}[QUICK.queue]
    assert (found.depth, found.running, found.expired) == (2, 2, 1)
    assert found.latency_s == pytest.approx(60, abs=2)
    assert found.relay_lag_s == pytest.approx(10, abs=2)
