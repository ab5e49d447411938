"""Real relays and workers: jobs come through, and those of workers that are killed or hang are done by others."""

import os
import signal
import time

import psutil
import pytest
from redis import Redis

from dues.jobs import enqueue
from dues.postgres import transaction
from tests.factory import Factory
from tests.jobs.conftest import Jobs
from tests.servers import wait_until
from tests.workers import deeds
from tests.workers.conftest import Notes, kill, wait_for_status

pytestmark = pytest.mark.usefixtures("crew")

LEASE_S = 2.0


def test_a_job_travels_from_its_commit_to_its_result(jobs: Jobs, notes: Notes, redis_client: Redis):
    job_id = jobs.add(deeds.NOTE, notes.args)
    wait_for_status(jobs, job_id, "succeeded")
    assert jobs.row(job_id).result == {"attempt": 1}
    # Nothing of it stays behind in Redis.
    wait_until(lambda: not redis_client.keys("rq:job:*") and not redis_client.keys("rq:queue:*"), 5)


def test_a_job_does_not_wait_for_the_relays_next_look(jobs: Jobs, notes: Notes):
    latencies = []
    for _ in range(15):
        job_id = jobs.add(deeds.NOTE, notes.args)
        wait_for_status(jobs, job_id, "succeeded")
        row = jobs.row(job_id)
        latencies.append((row.finished_at - row.created_at).total_seconds())
    assert sorted(latencies)[5] < 0.2


def test_a_killed_workers_job_is_resumed_within_its_lease_and_five_seconds(jobs: Jobs, notes: Notes):
    job_id = jobs.add(deeds.WAIT, notes.args)
    notes.wait("began")
    killed_at = time.monotonic()
    kill(notes.pids()[0])
    notes.wait("began", "began")
    assert time.monotonic() - killed_at < LEASE_S + 5
    notes.go()
    wait_for_status(jobs, job_id, "succeeded")
    assert (jobs.row(job_id).attempt, notes.words()) == (2, ["began", "began", "done"])


def test_a_worker_that_hung_past_its_lease_changes_nothing(jobs: Jobs, notes: Notes):
    job_id = jobs.add(deeds.WAIT, notes.args)
    notes.wait("began")
    zombie = notes.pids()[0]
    os.kill(zombie, signal.SIGSTOP)
    notes.wait("began", "began")
    notes.go()
    wait_for_status(jobs, job_id, "succeeded")
    before = jobs.row(job_id)
    os.kill(zombie, signal.SIGCONT)
    # It wakes up inside the body, finds out, and then serves on.
    wait_until(lambda: served_by(zombie, jobs, notes), 10, "the worker to serve on")
    assert jobs.row(job_id) == before


def served_by(pid: int, jobs: Jobs, notes: Notes) -> bool:
    job_id = jobs.add(deeds.NOTE, notes.args)
    wait_for_status(jobs, job_id, "succeeded")
    return bool(jobs.row(job_id).leased_by.endswith(f":{pid}"))


def test_what_redis_forgot_is_done_all_the_same_and_once(jobs: Jobs, notes: Notes, redis_client: Redis, make: Factory):
    with transaction():
        for _ in range(150):
            enqueue(deeds.NOTE, notes.args)
    wait_until(lambda: len(notes.words()) > 20, 10, "some of the jobs")
    redis_client.flushall()
    unfinished = "select count(*) from jobs where status <> 'succeeded'"
    wait_until(lambda: make.value(unfinished) == 0, 15, "all of the jobs")
    assert notes.words() == ["done"] * 150


def test_a_forked_job_that_dies_is_noticed_by_its_worker(jobs: Jobs):
    job_id = jobs.add(deeds.FORKED_FAIL, {"how": "die"})
    wait_until(lambda: jobs.row(job_id).error, 10, "the attempt to fail")
    row = jobs.row(job_id)
    # Not `worker_lost`, as it would be after its lease.
    assert (row.status, row.error["type"], row.error["detail"]) == ("queued", "/problems/process_died", "status -9")


def test_a_forked_job_that_will_not_stop_is_killed_at_its_time_limit(jobs: Jobs, notes: Notes):
    job_id = jobs.add(deeds.FORKED_DEAF, notes.args)
    wait_until(lambda: jobs.row(job_id).error, 10, "the attempt to fail")
    assert jobs.row(job_id).error["type"] == "/problems/job_timed_out"
    wait_until(lambda: not psutil.pid_exists(notes.pids()[0]), 5, "its process to end")


def test_a_forked_job_keeps_its_lease_and_ends_like_any_other(jobs: Jobs, notes: Notes):
    job_id = jobs.add(deeds.FORKED, notes.args)
    notes.wait("began")
    first = jobs.row(job_id).lease_until
    wait_until(lambda: (jobs.row(job_id).lease_until - first).total_seconds() > LEASE_S / 2, 10, "a renewal or two")
    notes.go()
    wait_for_status(jobs, job_id, "succeeded")
    second = jobs.add(deeds.FORKED, notes.args)
    wait_for_status(jobs, second, "succeeded")
    rows = [jobs.row(found) for found in (job_id, second)]
    assert [row.attempt for row in rows] == [1, 1]
    assert rows[0].leased_by == rows[1].leased_by
    assert len(set(notes.pids())) == 2


def test_a_forked_job_ends_with_its_worker(jobs: Jobs, notes: Notes):
    jobs.add(deeds.FORKED, notes.args)
    notes.wait("began")
    child = psutil.Process(notes.pids()[0])
    worker = child.parent()
    assert worker
    worker.kill()
    wait_until(lambda: not psutil.pid_exists(child.pid) or child.status() == psutil.STATUS_ZOMBIE, 5, "its end")


def test_a_forked_job_can_be_canceled(jobs: Jobs, notes: Notes):
    job_id = jobs.add(deeds.FORKED, notes.args)
    notes.wait("began")
    jobs.change(job_id, "cancel_requested_at = now()")
    wait_for_status(jobs, job_id, "canceled")
