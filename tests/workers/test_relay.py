"""What is due goes to RQ, what was lost comes back, and a relay that dies half-way changes nothing."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from flask import Flask
from redis import Redis
from rq.utils import as_text

from dues.failpoints import Armed, FailpointReached
from dues.jobs import Kind, enqueue
from dues.jobs.notifications import CHANNEL
from dues.jobs.on_failure import Ending
from dues.postgres import db, transaction
from tests.factory import Factory
from tests.jobs.conftest import QUICK, Jobs
from tests.servers import Servers, wait_until
from workers import relay
from workers.app import create_worker_app
from workers.relay import Relay, Wakeups, relay_once, sweep_once
from workers.rq_queues import job_id_of, queue

SLOW = Kind("test.slow", "slow")


@pytest.fixture
def waiting(redis_client: Redis, in_app: Flask) -> Callable[..., list[str]]:
    """The RQ ids in a queue, the next to be taken first."""
    return lambda name="default": queue(name, redis_client).get_job_ids()


def test_a_due_job_is_handed_over_once(jobs: Jobs, waiting):
    job_id = jobs.add()
    assert relay_once() == 1
    assert relay_once() == 0
    row = jobs.row(job_id)
    assert (row.delivery, row.status, row.version) == (1, "queued", 1)
    assert row.dispatched_at
    assert waiting() == [f"{job_id.hex}-1"]
    assert job_id_of(waiting()[0]) == job_id


def test_rq_knows_what_to_call_and_nothing_else(jobs: Jobs, redis_client: Redis, waiting):
    job_id = jobs.add(args={"secret": "x"})
    relay_once()
    delivery = queue("default", redis_client).fetch_job(waiting()[0])
    assert delivery
    assert (delivery.func_name, delivery.args, delivery.kwargs) == ("workers.job.perform", [str(job_id), 1], {})
    assert (delivery.result_ttl, delivery.retries_left, delivery.timeout) == (0, None, QUICK.timeout_s)
    assert redis_client.ttl(delivery.key) > 0


def test_each_queue_gets_its_own_the_most_urgent_first(jobs: Jobs, waiting):
    later, sooner, urgent, slow = jobs.add(), jobs.add(), jobs.add(priority=1), jobs.add(SLOW)
    jobs.change(sooner, "run_at = now() - interval '1 minute'")
    jobs.add(run_at=None, priority=50)
    assert relay_once() == 5
    assert [job_id_of(rq_id) for rq_id in waiting()][:1] == [urgent]
    assert [job_id_of(rq_id) for rq_id in waiting()][2:] == [sooner, later]
    assert [job_id_of(rq_id) for rq_id in waiting("slow")] == [slow]


def test_a_queue_in_rq_is_kept_short_so_that_the_urgent_can_overtake(jobs: Jobs, waiting, monkeypatch):
    monkeypatch.setattr(relay, "MOST_WAITING", 3)
    with transaction():
        for _ in range(5):
            enqueue(QUICK, {})
        other = enqueue(SLOW, {})
    assert relay_once() == 4
    urgent = jobs.add(priority=1)
    assert relay_once() == 0
    assert [job_id_of(rq_id) for rq_id in waiting("slow")] == [other]
    queue("default", relay._deliveries()._redis).pop_job_id()
    assert relay_once() == 1
    assert job_id_of(waiting()[-1]) == urgent


def test_without_redis_everything_stays_due(jobs: Jobs, make: Factory, monkeypatch):
    jobs.add()

    def refuse(*_: object, **__: object) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr("workers.rq_queues.Deliveries.push", refuse)
    with pytest.raises(redis.ConnectionError):
        relay_once()
    assert make.value("select count(*) from jobs where dispatched_at is null and delivery = 0") == 1


@pytest.mark.parametrize("moment", ["after_select", "after_push", "after_commit"])
def test_a_relay_that_dies_half_way_loses_nothing(jobs: Jobs, waiting, moment: str, tmp_path, monkeypatch):
    armed = {f"relay.{moment}": Armed("raise", f"{tmp_path}/marker")}
    monkeypatch.setattr("dues.failpoints._armed", armed)
    job_id = jobs.add()
    with pytest.raises(FailpointReached):
        relay_once()
    relay_once()
    assert {job_id_of(rq_id) for rq_id in waiting()} == {job_id}
    # Where the push was not undone with the transaction, the same delivery is there twice: one claim finds nothing.
    assert len(waiting()) == (2 if moment == "after_push" else 1)
    assert jobs.row(job_id).delivery == 1


def test_many_relays_hand_over_each_job_once(in_app: Flask, jobs: Jobs, waiting):
    with transaction():
        made = {enqueue(QUICK, {}) for _ in range(120)}

    def work(_: int) -> int:
        with in_app.app_context():
            return sum(iter(relay_once, 0))

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, range(4))) == 120
    assert len(waiting()) == 120
    assert {job_id_of(rq_id) for rq_id in waiting()} == made


def test_the_jobs_of_a_silent_worker_come_back(jobs: Jobs, waiting):
    silent, alive = jobs.claimed()[0].job_id, jobs.claimed()[0].job_id
    jobs.expire(silent)
    assert sweep_once() == 1
    assert [jobs.row(job_id).status for job_id in (silent, alive)] == ["queued", "running"]
    assert relay_once() == 1
    assert [job_id_of(rq_id) for rq_id in waiting()] == [silent]


def test_two_sweepers_take_each_job_back_once(in_app: Flask, jobs: Jobs, make: Factory):
    for _ in range(20):
        jobs.claimed()
    make.rows("update jobs set lease_until = clock_timestamp() - interval '1 s'")

    def work(_: int) -> int:
        with in_app.app_context():
            return sweep_once()

    with ThreadPoolExecutor(2) as threads:
        assert sum(threads.map(work, range(2))) == 20
    assert make.value("select count(*) from jobs where status = 'queued' and version = 3") == 20


def test_one_job_that_cannot_be_ended_does_not_keep_others(jobs: Jobs, monkeypatch):
    kind = Kind("test.stuck", "default", max_attempts=1)

    def fail(ending: Ending) -> None:
        raise RuntimeError

    monkeypatch.setattr("dues.jobs.on_failure._registered", {kind.name: fail})
    stuck, other = jobs.claimed(jobs.add(kind))[0].job_id, jobs.claimed()[0].job_id
    for job_id in (stuck, other):
        jobs.expire(job_id)
    assert sweep_once() == 1
    assert [jobs.row(job_id).status for job_id in (stuck, other)] == ["running", "queued"]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "_LOST_AFTER_S", 0.0)


@pytest.mark.usefixtures("impatient")
def test_deliveries_that_redis_lost_are_offered_again(jobs: Jobs, redis_client: Redis, waiting):
    lost = [jobs.add(), jobs.add(SLOW)]
    relay_once()
    redis_client.flushall()
    assert sweep_once() == 2
    assert relay_once() == 2
    assert waiting() == [f"{lost[0].hex}-2"]
    assert waiting("slow") == [f"{lost[1].hex}-2"]


@pytest.mark.usefixtures("impatient")
def test_a_backlog_is_not_taken_for_lost(jobs: Jobs):
    for _ in range(3):
        jobs.add()
    relay_once()
    assert sweep_once() == 0
    assert relay_once() == 0


def test_a_delivery_that_was_just_taken_is_not_taken_for_lost(jobs: Jobs, redis_client: Redis):
    jobs.add()
    relay_once()
    redis_client.flushall()
    assert sweep_once() == 0


@pytest.mark.usefixtures("impatient")
def test_what_dead_workers_had_taken_is_put_away(jobs: Jobs, redis_client: Redis, waiting):
    source = queue("default", redis_client)
    running, finished, unclaimed = jobs.add(), jobs.add(), jobs.add()
    relay_once()
    for _ in range(3):
        redis_client.lmove(source.key, source.intermediate_queue_key)
    jobs.claimed(running)
    jobs.claimed(finished)[1].complete(None, None)
    assert sweep_once() == 1
    assert jobs.row(unclaimed).dispatched_at is None
    taken = redis_client.lrange(source.intermediate_queue_key, 0, -1)
    assert [job_id_of(as_text(rq_id)) for rq_id in taken] == [running]
    assert len(redis_client.keys("rq:job:*")) == 1


@pytest.fixture
def own_app(servers: Servers, clean: None) -> Iterator[Flask]:
    app = create_worker_app(servers.settings(relay_poll_s=30.0))
    yield app
    with app.app_context():
        db.engine.dispose()


def test_the_relay_runs_at_a_hint_and_not_only_when_it_polls(own_app: Flask, jobs: Jobs, waiting, redis_client: Redis):
    running = Relay(own_app)
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(running.run)
        wait_until(lambda: redis_client.pubsub_numsub(CHANNEL)[0][1] == 1, 5, "the relay to listen")
        began_at = time.monotonic()
        jobs.add()
        wait_until(waiting, 5, "the job to be handed over")
        assert time.monotonic() - began_at < 5
        running.stop()
        jobs.add()
        done.result(5)


def test_many_hints_are_one(servers: Servers, redis_client: Redis, clean: None):
    hints = Wakeups(servers.redis_url)
    hints.wait(0)
    for _ in range(50):
        redis_client.publish(CHANNEL, "")
    for expected in (True, False):
        began_at = time.monotonic()
        hints.wait(0.2)
        assert (time.monotonic() - began_at < 0.15) is expected
    hints.close()


def test_without_redis_the_relay_still_sweeps(servers: Servers, jobs: Jobs):
    app = create_worker_app(servers.settings(redis_url="redis://127.0.0.1:1/0", relay_poll_s=0.01))
    job_id = jobs.claimed()[0].job_id
    jobs.expire(job_id)
    running = Relay(app)
    with ThreadPoolExecutor(1) as threads:
        done = threads.submit(running.run)
        wait_until(lambda: jobs.row(job_id).status == "queued", 5, "the job to come back")
        running.stop()
        done.result(5)
    with app.app_context():
        db.engine.dispose()


def test_without_redis_waiting_for_a_hint_is_waiting():
    hints = Wakeups("redis://127.0.0.1:1/0")
    began_at = time.monotonic()
    hints.wait(0.05)
    assert 0.04 < time.monotonic() - began_at < 1
