"""Stopping workers, or having them die at a line: nothing is lost, and no attempt is charged for a stop."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing

import psutil
import pytest
from redis import Redis

from config import ConfigError
from dues.jobs.notifications import CHANNEL
from local.valkey import Valkey
from tests.jobs.conftest import Jobs
from tests.servers import Home, running, wait_until
from tests.workers import deeds
from tests.workers.conftest import Notes, Processes, children, ended, wait_for_status
from workers.rq_queues import queue
from workers.supervisor import parse_queues

LINES = ("after_pop", "before_claim", "after_claim", "after_complete")


def test_workers_killed_at_every_line_cost_no_job(processes: Processes, jobs: Jobs, notes: Notes, tmp_path):
    failpoints = ",".join(f"worker.{line}=kill:{tmp_path}/{line}" for line in LINES)
    processes.start_both("default:2", DUES_FAILPOINTS=failpoints, JOB_LEASE_S="1")
    made = []
    while not all((tmp_path / line).exists() for line in LINES):
        made.append(jobs.add(deeds.NOTE, notes.args))
        wait_for_status(jobs, made[-1], "succeeded")
    assert notes.words() == ["done"] * len(made)


def test_a_worker_told_to_stop_between_taking_and_starting_leaves_the_job_to_another(
    processes: Processes, jobs: Jobs, notes: Notes, tmp_path
):
    processes.start_both("default:1", DUES_FAILPOINTS=f"worker.after_pop=term:{tmp_path}/marker")
    job_id = jobs.add(deeds.NOTE, notes.args)
    wait_for_status(jobs, job_id, "succeeded")
    assert (tmp_path / "marker").exists()
    assert jobs.row(job_id).attempt == 1


def test_a_stopped_worker_finishes_what_fits_and_takes_no_more(
    processes: Processes, jobs: Jobs, notes: Notes, redis_client: Redis
):
    _, workers = processes.start_both("default:1")
    first = jobs.add(deeds.WAIT, notes.args)
    notes.wait("began")
    workers.terminate()
    second = jobs.add(deeds.NOTE, notes.args)
    wait_until(lambda: queue("default", redis_client).count, 5, "a delivery that nobody takes")
    notes.go()
    assert ended(workers) == 0
    assert (jobs.row(first).status, jobs.row(second).status) == ("succeeded", "queued")
    assert notes.words() == ["began", "done"]


def test_what_does_not_fit_is_given_back_uncharged(processes: Processes, jobs: Jobs, notes: Notes):
    relay, workers = processes.start_both("default:1,slow:1", drain_s=0.3)
    made = [jobs.add(kind, notes.args) for kind in (deeds.WAIT, deeds.FORKED)]
    notes.wait("began", "began")
    relay.terminate()
    ended(relay)
    workers.terminate()
    assert ended(workers) == 0
    for row in map(jobs.row, made):
        assert (row.status, row.attempt, row.due) == ("queued", 0, True)
    assert not any(psutil.pid_exists(pid) for pid in notes.pids())


def test_idle_workers_and_relays_stop_at_once(processes: Processes, redis_client: Redis):
    both = processes.start_both("default:2,slow:1")
    wait_until(lambda: redis_client.scard("rq:workers") == 3, 20, "three workers")
    wait_until(lambda: redis_client.pubsub_numsub(CHANNEL)[0][1], 20, "the relay")
    began_at = time.monotonic()
    for process, number in zip(both, (signal.SIGTERM, signal.SIGINT), strict=True):
        assert process.pid
        os.kill(process.pid, number)
    assert [ended(process) for process in both] == [0, 0]
    assert time.monotonic() - began_at < 4
    assert redis_client.scard("rq:workers") == 0


def test_workers_do_not_outlive_their_supervisor(processes: Processes, redis_client: Redis):
    workers = processes.start("workers", WORKER_QUEUES="default:2")
    wait_until(lambda: redis_client.scard("rq:workers") == 2, 20, "two workers")
    family = children(workers)
    workers.kill()
    ended(workers)
    wait_until(lambda: not any(member.is_running() for member in family), 5, "the workers to end")


def test_the_queues_of_each_process():
    assert parse_queues("critical:2,slow:1,webhooks:0") == ["critical", "critical", "slow"]
    with pytest.raises(ConfigError, match="there is no queue urgent"):
        parse_queues("urgent:1")


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    home = Home()
    valkey = Valkey(home.path, durable=False)
    with running(valkey):
        yield valkey
    home.remove()


def test_without_redis_work_goes_on(processes: Processes, jobs: Jobs, notes: Notes, own_valkey: Valkey):
    processes.start_both("default:2", REDIS_URL=own_valkey.url)
    wait_for_status(jobs, jobs.add(deeds.NOTE, notes.args), "succeeded")
    own_valkey.stop()
    made = [jobs.add(deeds.NOTE, notes.args) for _ in range(10)]
    for job_id in made:
        wait_for_status(jobs, job_id, "succeeded")
    own_valkey.start()
    with closing(Redis.from_url(own_valkey.url)) as client:
        # From here on the relay hands jobs over again.
        wait_until(lambda: client.pubsub_numsub(CHANNEL)[0][1], 20, "the relay")
    wait_for_status(jobs, jobs.add(deeds.NOTE, notes.args), "succeeded")
    assert notes.words() == ["done"] * 12


def test_without_a_relay_idle_workers_look_for_themselves(processes: Processes, jobs: Jobs, notes: Notes):
    processes.start("workers", WORKER_QUEUES="default:1")
    for _ in range(2):
        wait_for_status(jobs, jobs.add(deeds.NOTE, notes.args), "succeeded")


def test_workers_start_without_redis(processes: Processes, jobs: Jobs, notes: Notes):
    workers = processes.start("workers", WORKER_QUEUES="default:1", REDIS_URL="redis://127.0.0.1:1/0")
    wait_for_status(jobs, jobs.add(deeds.NOTE, notes.args), "succeeded")
    workers.terminate()
    assert ended(workers) == 0
