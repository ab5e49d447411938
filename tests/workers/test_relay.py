"""Workers are woken for what is due, what was lost comes back, and a relay that dies half-way changes nothing."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from flask import Flask
from redis import Redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty

from dues.failpoints import Armed, FailpointReached
from dues.jobs import Kind, enqueue
from dues.jobs.notifications import CHANNEL
from dues.jobs.on_failure import Ending
from dues.jobs.stats import queue_stats
from dues.postgres import db, transaction
from tests.factory import Factory
from tests.jobs.conftest import QUICK, Jobs
from tests.servers import Servers, taking_no_writes, wait_until
from tests.workers import deeds
from tests.workers.conftest import Notes
from workers import relay
from workers.app import create_worker_app
from workers.job import use_app
from workers.relay import Relay, Wakeups, relay_once, sweep_once
from workers.rq_queues import queue

SLOW = Kind("test.slow", "slow")


@pytest.fixture
def waiting(redis_client: Redis, in_app: Flask) -> Callable[..., list[str]]:
    """The deliveries in a queue, by their ids in RQ."""
    return lambda name="default": queue(name, redis_client).get_job_ids()


def test_there_is_a_delivery_for_each_job_that_is_due(jobs: Jobs, waiting):
    for _ in range(3):
        jobs.add()
    jobs.add(SLOW)
    jobs.add(delay_s=3600)
    assert relay_once() == 4
    assert (len(waiting()), len(waiting("slow"))) == (3, 1)
    assert relay_once() == 0


def test_rq_knows_what_to_call_and_nothing_of_the_jobs(jobs: Jobs, redis_client: Redis, waiting):
    jobs.add(args={"secret": "x"})
    relay_once()
    delivery = queue("default", redis_client).fetch_job(waiting()[0])
    assert delivery
    assert (delivery.func_name, delivery.args, delivery.kwargs) == ("workers.job.perform", ["default"], {})
    assert (delivery.result_ttl, delivery.retries_left) == (0, None)
    assert redis_client.ttl(delivery.key) > 0


def test_a_worker_of_rq_itself_could_do_it(jobs: Jobs, redis_client: Redis, in_app: Flask, notes: Notes):
    use_app(in_app)
    for _ in range(3):
        jobs.add(deeds.NOTE, notes.args)
    relay_once()
    with ThreadPoolExecutor(1) as thread:
        # Its alarms are for a main thread; what they bound, a delivery of ours does not have.
        worker = SimpleWorker([queue("default", redis_client)], connection=redis_client, serializer=JSONSerializer)
        worker.death_penalty_class = TimerDeathPenalty
        worker._install_signal_handlers = lambda: None  # type: ignore[method-assign]
        thread.submit(worker.work, burst=True, logging_level="ERROR").result()
    assert notes.words() == ["done"] * 3


def test_a_queue_in_rq_is_kept_short_however_much_is_due(jobs: Jobs, waiting, monkeypatch):
    monkeypatch.setattr(relay, "MOST_WAITING", 3)
    with transaction():
        for _ in range(5):
            enqueue(QUICK, {})
        enqueue(SLOW, {})
    assert relay_once() == 4
    queue("default", relay._deliveries()._redis).pop_job_id()
    assert relay_once() == 1
    assert (len(waiting()), len(waiting("slow"))) == (3, 1)


def test_what_no_worker_may_begin_now_wakes_none(jobs: Jobs, make: Factory, waiting):
    """A store has as many slow jobs running as it may."""
    store, other = make.store(), make.store()
    jobs.claimed(jobs.add(SLOW, store_id=store.id))
    for _ in range(5):
        jobs.add(SLOW, store_id=store.id)
    assert relay_once() == 0
    jobs.add(SLOW, store_id=other.id)
    assert relay_once() == 1
    assert len(waiting("slow")) == 1


def test_a_job_becomes_due_when_its_time_has_come(jobs: Jobs, waiting):
    job_id = jobs.add(delay_s=3600)
    assert relay_once() == 0
    jobs.change(job_id, "run_at = now()")
    assert relay_once() == 2
    assert (jobs.row(job_id).due, len(waiting())) == (True, 1)


def test_without_redis_everything_stays_due(jobs: Jobs, make: Factory, monkeypatch):
    jobs.add()
    jobs.change(jobs.add(delay_s=3600), "run_at = now()")

    def refuse(*_: object, **__: object) -> None:
        raise redis.ConnectionError

    monkeypatch.setattr("workers.rq_queues.Deliveries.push", refuse)
    with pytest.raises(redis.ConnectionError):
        relay_once()
    assert make.value("select count(*) from jobs where status = 'queued' and due") == 2


def test_a_relay_whose_queues_are_somebody_else_s_is_none(jobs: Jobs, redis_client: Redis):
    name = queue("slow", redis_client).key
    redis_client.delete(name)
    redis_client.set(name, "no list")
    try:
        with pytest.raises(redis.RedisError, match="WRONGTYPE"):
            relay.note_look()
    finally:
        redis_client.delete(name)


@pytest.mark.parametrize("why", ["full", "replica"])
def test_a_relay_that_cannot_wake_anybody_is_none(jobs: Jobs, servers: Servers, why: str):
    """What watches over relays (`dues_queue_relay_lag_seconds`) is told so, though Redis answers."""
    with taking_no_writes(servers.redis, why), pytest.raises(redis.RedisError):
        relay.note_look()
    relay.note_look()


@pytest.mark.parametrize("moment", ["after_select", "after_push", "after_commit"])
def test_a_relay_that_dies_half_way_loses_nothing(jobs: Jobs, waiting, moment: str, tmp_path, monkeypatch):
    armed = {f"relay.{moment}": Armed("raise", f"{tmp_path}/marker")}
    monkeypatch.setattr("dues.failpoints._armed", armed)
    jobs.add()
    with pytest.raises(FailpointReached):
        relay_once()
    relay_once()
    assert len(waiting()) == 1


def test_many_relays_make_each_delivery_once(in_app: Flask, jobs: Jobs, waiting):
    with transaction():
        for _ in range(40):
            enqueue(QUICK, {})
    at_once = threading.Barrier(4)

    def work(_: int) -> int:
        with in_app.app_context():
            at_once.wait()
            return sum(relay_once() for _ in range(5))

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(work, range(4))) == 40
    assert len(waiting()) == 40


def test_a_relay_at_work_is_seen(jobs: Jobs):
    jobs.change(jobs.add(), "run_at = now() - interval '60 s'")
    lag_s = {found.queue: found.relay_lag_s for found in queue_stats()}["default"]
    assert 59 < lag_s < 70
    relay.note_look()
    lag_s = {found.queue: found.relay_lag_s for found in queue_stats()}["default"]
    assert lag_s < 30


def test_the_jobs_of_a_silent_worker_come_back(jobs: Jobs, waiting):
    silent, alive = jobs.claimed()[0].job_id, jobs.claimed()[0].job_id
    jobs.expire(silent)
    assert sweep_once() == 1
    assert [jobs.row(job_id).status for job_id in (silent, alive)] == ["queued", "running"]
    assert jobs.row(silent).due
    assert relay_once() == 1


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


def test_deliveries_that_redis_lost_are_made_again(jobs: Jobs, redis_client: Redis, waiting):
    jobs.add()
    jobs.add(SLOW)
    relay_once()
    redis_client.flushall()
    assert relay_once() == 2
    assert (len(waiting()), len(waiting("slow"))) == (1, 1)


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
        jobs.add()
        wait_until(waiting, 5, "the job to be handed over")
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
        hints.wait(1)
        assert (time.monotonic() - began_at < 0.9) is expected
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


def test_one_thing_that_fails_keeps_a_relay_from_nothing_else(
    servers: Servers, jobs: Jobs, waiting, monkeypatch: pytest.MonkeyPatch
):
    def fail() -> int:
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(relay, "sweep_once", fail)
    app = create_worker_app(servers.settings(relay_poll_s=0.05))
    running = Relay(app)
    thread = threading.Thread(target=running.run)
    thread.start()
    try:
        jobs.add()
        wait_until(waiting, what="a delivery")
        jobs.add()
        wait_until(lambda: len(waiting()) == 2, what="another")
    finally:
        running.stop()
        thread.join()
    with app.app_context():
        db.engine.dispose()


def test_without_redis_waiting_for_a_hint_is_waiting():
    hints = Wakeups("redis://127.0.0.1:1/0")
    began_at = time.monotonic()
    hints.wait(0.05)
    assert 0.04 < time.monotonic() - began_at < 5
