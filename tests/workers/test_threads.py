"""A worker process that does several jobs at once: one store's never take all of its threads, and none is lost when it
is killed or told to stop amid them."""

import time
from collections import Counter

import pytest

from tests.factory import Factory
from tests.jobs.conftest import Jobs
from tests.servers import wait_until
from tests.workers import deeds
from tests.workers.conftest import Notes, Processes, children, ended, kill, wait_for_status

THREADS, PER_STORE = 6, 4
SETTINGS = {"WEBHOOK_THREADS": str(THREADS), "WEBHOOKS_PER_STORE": str(PER_STORE)}


def put(jobs: Jobs, make: Factory, notes: Notes, count: int) -> None:
    """A store asks for what does not end until the test says so."""
    store = make.store()
    for _ in range(count):
        jobs.add(deeds.THREADED, notes.args, store_id=store.id)


def wait_until_began(notes: Notes, count: int) -> None:
    wait_until(lambda: Counter(notes.words())["began"] >= count, 20, f"{count} jobs to begin")


def statuses(make: Factory) -> dict[str, int]:
    return {row.status: row.count for row in make.rows("select status, count(*) from jobs group by 1")}


def test_what_one_store_has_hanging_keeps_nobody_elses(
    processes: Processes, jobs: Jobs, make: Factory, notes: Notes
) -> None:
    processes.start_both("webhooks:1", **SETTINGS)
    put(jobs, make, notes, 20)
    wait_until_began(notes, PER_STORE)
    others = [jobs.add(deeds.THREADED_NOTE, notes.args, store_id=make.store().id) for _ in range(10)]
    for job_id in others:
        wait_for_status(jobs, job_id, "succeeded")
    assert statuses(make) == {"running": PER_STORE, "queued": 20 - PER_STORE, "succeeded": 10}
    # A second one that hangs gets what is left, and then there is no thread more.
    put(jobs, make, notes, 20)
    wait_until_began(notes, THREADS)
    assert len(set(notes.pids())) == 1
    notes.go()
    wait_until(lambda: statuses(make) == {"succeeded": 50}, 20, "all to be done")
    assert Counter(notes.words()) == {"began": 40, "done": 50}


def test_what_several_stores_have_hanging_keeps_nobody_elses(
    processes: Processes, jobs: Jobs, make: Factory, notes: Notes
) -> None:
    for _ in range(2):
        put(jobs, make, notes, 20)
    processes.start_both("webhooks:1", WEBHOOK_THREADS="6", WEBHOOKS_PER_STORE="3")
    wait_until_began(notes, 4)
    others = [jobs.add(deeds.THREADED_NOTE, notes.args, store_id=make.store().id) for _ in range(10)]
    for job_id in others:
        wait_for_status(jobs, job_id, "succeeded")
    assert statuses(make)["running"] in (4, 5)
    notes.go()
    wait_until(lambda: statuses(make) == {"succeeded": 50}, 20, "all to be done")


def test_jobs_of_a_process_that_is_killed_are_all_done_by_another(
    processes: Processes, jobs: Jobs, make: Factory, notes: Notes
) -> None:
    processes.start_both("webhooks:1", **SETTINGS)
    for _ in range(3):
        put(jobs, make, notes, 4)
    wait_until_began(notes, THREADS)
    kill(notes.pids()[0])
    wait_until_began(notes, 2 * THREADS)
    notes.go()
    wait_until(lambda: statuses(make) == {"succeeded": 12}, 20, "all to be done")
    assert Counter(notes.words())["done"] == 12
    assert Counter(row.attempt for row in make.rows("select attempt from jobs")) == {1: 6, 2: 6}


def test_what_a_stop_leaves_no_time_for_is_given_back_uncharged(
    processes: Processes, jobs: Jobs, make: Factory, notes: Notes
) -> None:
    relay, workers = processes.start_both("webhooks:1", drain_s=0.3, **SETTINGS)
    put(jobs, make, notes, 4)
    wait_until_began(notes, PER_STORE)
    relay.terminate()
    ended(relay)
    workers.terminate()
    assert ended(workers) == 0
    found = make.rows("select status, attempt, due, lease_token from jobs")
    assert [(row.status, row.attempt, row.due, row.lease_token) for row in found] == [("queued", 0, True, None)] * 4


def test_what_ends_in_time_is_finished_and_nothing_more_begun(
    processes: Processes, jobs: Jobs, make: Factory, notes: Notes
) -> None:
    _, workers = processes.start_both("webhooks:1", **SETTINGS)
    put(jobs, make, notes, 6)
    wait_until_began(notes, PER_STORE)
    workers.terminate()
    # The process has heard of it once it takes no more deliveries.
    time.sleep(1.5)
    notes.go()
    assert ended(workers) == 0
    assert statuses(make) == {"succeeded": PER_STORE, "queued": 2}


def test_threads_do_not_outlive_the_supervisor(processes: Processes, jobs: Jobs, make: Factory, notes: Notes) -> None:
    workers = processes.start("workers", WORKER_QUEUES="webhooks:1", drain_s=0.5, **SETTINGS)
    put(jobs, make, notes, 2)
    wait_until_began(notes, 2)
    family = children(workers)
    workers.kill()
    ended(workers)
    wait_until(lambda: not any(member.is_running() for member in family), 10, "the worker to end")
    wait_until(lambda: statuses(make) == {"queued": 2}, 10, "its jobs to be given back")


@pytest.mark.parametrize("queue", ["webhooks:1", pytest.param("webhooks:2", marks=pytest.mark.wide)])
def test_every_lease_is_renewed_while_its_job_takes(
    queue: str, processes: Processes, jobs: Jobs, make: Factory, notes: Notes
) -> None:
    processes.start_both(queue, **SETTINGS)
    for _ in range(3):
        put(jobs, make, notes, 2)
    wait_until_began(notes, 6)
    leases = "select min(lease_until) - max(created_at) from jobs where status = 'running'"
    # Longer than the two seconds for which they were taken.
    wait_until(lambda: make.value(leases).total_seconds() > 5, 20, "all leases to be renewed")
    notes.go()
    wait_until(lambda: statuses(make) == {"succeeded": 6}, 20, "all to be done")
    assert {row.attempt for row in make.rows("select attempt from jobs")} == {1}
