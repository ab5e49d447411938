"""What those who scale workers watch."""

import pytest
from flask import Flask

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


def test_the_table_for_operators(in_app: Flask, jobs: Jobs):
    jobs.change(jobs.add(), "run_at = now() - interval '7 s'")
    result = in_app.test_cli_runner().invoke(args=["jobs", "stats"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split() == ["queue", "depth", "latency", "not", "relayed", "running", "expired", "leases"]
    assert [line.split()[:2] for line in lines[1:3]] == [["critical", "0"], ["default", "1"]]
    assert 7 <= float(lines[2].split()[2]) < 20
    assert len({len(line) for line in lines}) == 1
