"""Asking for a job: a row that commits with the data, and costs nothing else."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from statistics import median
from uuid import UUID

import pytest
import redis
from flask import Flask

from dues.app import create_base
from dues.jobs import Kind, enqueue
from dues.jobs.lease import claim
from dues.jobs.notifications import CHANNEL
from dues.observability.trace import tracing
from dues.postgres import db, transaction
from tests.factory import Factory
from tests.jobs.conftest import QUICK, Jobs
from tests.servers import Servers, wait_until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_row_says_all_that_was_asked_for(jobs: Jobs, make: Factory):
    kind = Kind("test.all", "slow", max_attempts=3, timeout_s=7, cancelable=True)
    store, owner = make.store(), make.user()
    with transaction(), tracing(TRACE):
        job_id = enqueue(kind, {"a": 1}, owner_id=owner.id, store_id=store.id, dedupe_key="k", priority=5)
    row = jobs.row(job_id)
    assert (row.kind, row.queue, row.max_attempts, row.timeout_s, row.cancelable) == ("test.all", "slow", 3, 7, True)
    assert (row.args, row.owner_id, row.store_id, row.dedupe_key) == ({"a": 1}, owner.id, store.id, "k")
    assert (row.priority, row.trace, row.status, row.attempt, row.version) == (5, TRACE, "queued", 0, 1)
    assert row.run_at == row.created_at


def test_a_job_is_there_with_the_data_or_not_at_all(jobs: Jobs, make: Factory):
    with suppress(ZeroDivisionError), transaction():
        enqueue(QUICK, {})
        1 / 0  # noqa: B018
    assert make.value("select count(*) from jobs") == 0


def test_it_needs_a_transaction(jobs: Jobs):
    with pytest.raises(RuntimeError, match="transaction"):
        enqueue(QUICK, {})


def test_it_is_one_statement(jobs: Jobs, queries):
    with transaction(), queries() as seen:
        enqueue(QUICK, {"a": 1}, dedupe_key="k")
    assert len(seen) == 1, str(seen)


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"id": UUID(int=1)}, "argument id: a UUID is not JSON"),
        ({"a": {"b": [datetime.now(UTC)]}}, r"argument a.b\[0\]: a datetime is not JSON"),
        ({"a": {1: 2}}, "the name 1 is not a string"),
        ({"a": float("nan")}, "nan is not JSON"),
        ({"a": "\0"}, "NUL"),
        ({"a": "x" * 5000}, "are too many"),
    ],
)
def test_arguments_are_small_json(jobs: Jobs, args, error: str):
    with pytest.raises((TypeError, ValueError), match=error), transaction():
        enqueue(QUICK, args)


def test_a_live_job_of_the_same_kind_and_key_stands_in_for_a_new_one(jobs: Jobs, make: Factory):
    first = jobs.add(dedupe_key="k")
    assert jobs.add(dedupe_key="k") == first
    jobs.claimed(first)
    assert jobs.add(dedupe_key="k") == first
    assert jobs.add(dedupe_key="other") != first
    assert jobs.add(Kind("test.other", "default"), dedupe_key="k") != first
    assert jobs.add() != first
    assert make.value("select count(*) from jobs") == 4


def test_a_finished_job_does_not_stand_in(jobs: Jobs):
    _, lease = jobs.claimed(first := jobs.add(dedupe_key="k"))
    lease.complete(None, None)
    assert jobs.add(dedupe_key="k") != first


def test_two_transactions_with_the_same_key_make_one_job(in_app: Flask, jobs: Jobs, make: Factory):
    def ask(number: int) -> UUID:
        with in_app.app_context():
            return jobs.add(dedupe_key="k")

    with ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(ask, range(24)))) == 1
    assert make.value("select count(*) from jobs") == 1


def test_a_job_for_later_is_not_claimed_before(jobs: Jobs):
    later = datetime.now(UTC) + timedelta(hours=1)
    job_id = jobs.add(run_at=later)
    row = jobs.row(job_id)
    assert (row.run_at, row.due) == (later, False)
    assert claim([job_id], "tester") is None


def test_how_much_later_is_counted_by_postgresqls_clock(jobs: Jobs):
    row = jobs.row(jobs.add(delay_s=60))
    assert ((row.run_at - row.created_at).total_seconds(), row.due) == (60, False)


def test_the_relay_is_told_after_the_commit_and_not_of_what_is_for_later(jobs: Jobs, servers: Servers):
    with closing(redis.Redis.from_url(servers.redis_url)) as client, client.pubsub() as hints:
        hints.subscribe(CHANNEL)
        assert hints.get_message(timeout=10)
        # A hint of what was done before may still be on its way.
        wait_until(lambda: hints.get_message(timeout=0.1) is None)
        jobs.add(run_at=datetime.now(UTC) + timedelta(hours=1))
        jobs.add(delay_s=5)
        with transaction():
            enqueue(QUICK, {})
            assert hints.get_message(timeout=0.05) is None
        hint = hints.get_message(timeout=10)
        assert hint
        assert hint["type"] == "message"


@contextmanager
def app_with_redis(servers: Servers, url: str) -> Iterator[None]:
    app = create_base(servers.settings(redis_url=url))
    with app.app_context():
        yield
        db.engine.dispose()


@pytest.fixture
def hung_redis() -> Iterator[str]:
    """A server that takes connections and never says anything: what a stopped process looks like."""
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


@pytest.mark.parametrize("broken", ["refused", "hung", "unknown"])
def test_a_redis_that_is_away_costs_nothing(clean: None, servers: Servers, hung_redis: str, broken: str):
    url = {"refused": "redis://127.0.0.1:1/0", "hung": hung_redis, "unknown": "redis://redis.invalid:6379/0"}[broken]
    with app_with_redis(servers, url):
        with transaction():
            enqueue(QUICK, {})
        taken = []
        for _ in range(20):
            with transaction():
                enqueue(QUICK, {})
                done_at = time.perf_counter()
            taken.append(time.perf_counter() - done_at)
    # What follows the last statement of the block: the commit and the hint. The median, because a busy machine may
    # hold any one of them up; a Redis that was waited for would hold up each.
    assert median(taken) < 0.05


def test_the_relay_hears_again_once_redis_is_back(clean: None, servers: Servers, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dues.jobs.notifications._PAUSE_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with app_with_redis(servers, f"redis://127.0.0.1:{port}/0"):
        with transaction():
            enqueue(QUICK, {})
        with socket.create_server(("127.0.0.1", port)) as server:
            server.settimeout(0.01)

            def told() -> bool:
                with transaction():
                    enqueue(QUICK, {})
                try:
                    server.accept()[0].close()
                except TimeoutError:
                    return False
                return True

            wait_until(told, 5, "a connection to the Redis that is back")
