"""What those who scale workers watch."""

from dataclasses import replace
from typing import Any

import pytest
from flask import Flask

from dues.jobs import Kind
from dues.jobs.stats import QueueStats, notices, queue_stats
from tests.factory import Factory
from tests.jobs.conftest import QUICK, Jobs


def of_queue(name: str = QUICK.queue) -> QueueStats:
    return {stats.queue: stats for stats in queue_stats()}[name]


def test_queues_that_are_empty_are_there_too(jobs: Jobs):
    stats = queue_stats()
    assert [found.queue for found in stats] == ["critical", "default", "events", "bulk", "slow", "webhooks"]
    assert all((found.depth, found.latency_s, found.running, found.expired) == (0, 0, 0, 0) for found in stats)
    assert all((found.arrivals_per_s, found.mean_s, found.recommended_workers) == (0, None, 1) for found in stats)


def test_depth_latency_and_silent_workers(jobs: Jobs):
    waiting, longest, later = (jobs.add() for _ in range(3))
    jobs.change(waiting, "run_at = now() - interval '10 s'")
    jobs.change(longest, "run_at = now() - interval '60 s'")
    jobs.change(later, "run_at = now() + interval '60 s'")
    jobs.claimed()
    jobs.expire(jobs.claimed()[0].job_id)
    jobs.add(Kind("test.slow", "slow"))
    found = of_queue()
    assert (found.depth, found.running, found.expired) == (2, 2, 1)
    assert found.latency_s == pytest.approx(60, abs=8)
    assert found.relay_lag_s == pytest.approx(60, abs=8)


def test_a_queue_that_nobody_serves_is_named(jobs: Jobs):
    """However patient it is: `bulk` may wait for an hour, which is long to find out that no worker has it."""
    bulk = Kind("test.bulk", "bulk")
    first, other = jobs.add(bulk), jobs.add()
    jobs.change(first, "run_at = now() - interval '61 s'")
    jobs.change(other, "run_at = now() - interval '50 s'")
    [said] = notices(queue_stats())
    assert said.startswith("bulk: jobs have been due for 61 s and none is running: does a worker serve it")
    jobs.claimed(jobs.add(bulk))
    assert notices(queue_stats()) == []


def test_what_is_held_back_asks_for_no_more_workers(jobs: Jobs, make: Factory):
    """A store has as many slow jobs running as it may: others' wait tells how far behind the queue is."""
    slow, store, other = Kind("test.slow", "slow"), make.store(), make.store()
    jobs.claimed(jobs.add(slow, store_id=store.id))
    for _ in range(3):
        jobs.change(jobs.add(slow, store_id=store.id), "run_at = now() - interval '1000 s'")
    jobs.change(jobs.add(slow, store_id=other.id), "run_at = now() - interval '10 s'")
    found = of_queue("slow")
    assert (found.depth, found.held_back, found.running) == (1, 3, 1)
    assert found.latency_s == pytest.approx(10, abs=8)
    assert found.recommended_workers == 1


def test_what_arrived_and_ended_in_the_last_minute(jobs: Jobs):
    jobs.add()
    jobs.claimed()
    for status, due, started, ended in (
        ("succeeded", 31, 30, 28),
        # Its first attempt was long ago; the one that counts took 4 s.
        ("failed", 9, 500, 5),
        # Due before the minute began.
        ("succeeded", 70, 40, 37),
        ("succeeded", 80, 75, 70),
    ):
        jobs.change(
            jobs.add(),
            f"status = '{status}', run_at = now() - interval '{due} s', started_at = now() - interval '{started} s',"
            f" finished_at = now() - interval '{ended} s'",
        )
    found = of_queue()
    assert found.arrivals_per_s == pytest.approx(4 / 60)
    assert found.failures_per_s == pytest.approx(1 / 60)
    assert found.mean_s == pytest.approx((2 + 4 + 3) / 3)


IDLE = QueueStats("default", 0, 0.0, 0.0, 0, 0, objective_s=10.0)


@pytest.mark.parametrize(
    ("changes", "workers"),
    [
        ({}, 1),
        # 20 a second that take 0.1 s each are two workers' time, of which each is to give 0.7.
        ({"arrivals_per_s": 20.0, "mean_s": 0.1}, 3),
        # Who waits for less than half of the objective is no reason for more.
        ({"arrivals_per_s": 20.0, "mean_s": 0.1, "depth": 600, "latency_s": 4.9}, 3),
        # 600 that take 0.1 s are done in 10 s by six more.
        ({"arrivals_per_s": 20.0, "mean_s": 0.1, "depth": 600, "latency_s": 5.1}, 9),
        # Nobody knows how long they take.
        ({"depth": 5, "latency_s": 60.0, "running": 2}, 3),
        # A process that does several at once.
        ({"arrivals_per_s": 20.0, "mean_s": 1.0, "threads": 16}, 2),
        ({"depth": 5, "latency_s": 60.0, "running": 16, "threads": 16}, 2),
    ],
)
def test_how_many_workers_would_keep_up(changes: dict[str, Any], workers: int):
    assert replace(IDLE, **changes).recommended_workers == workers


def test_the_table_for_operators(in_app: Flask, jobs: Jobs):
    jobs.change(jobs.add(), "run_at = now() - interval '7 s'")
    result = in_app.test_cli_runner().invoke(args=["jobs", "stats"])
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].split()[:5] == ["queue", "depth", "held", "back", "latency"]
    assert [line.split()[:2] for line in lines[1:3]] == [["critical", "0"], ["default", "1"]]
    assert 7 <= float(lines[2].split()[3]) < 20
    assert len({len(line) for line in lines}) == 1
