"""Every change of a job is hinted at once it is committed, and no Redis can hold it up."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from uuid import UUID

import pytest
from redis import Redis
from redis.client import PubSub

from dues.app import create_base
from dues.ids import new_id
from dues.jobs import Run, notifications
from dues.jobs.exceptions import WORKER_LOST
from dues.jobs.lease import take_back
from dues.jobs.notifications import CHANGES, Waker, read_changes, tell_change, write_changes
from dues.jobs.service import cancel
from dues.postgres import db, transaction
from tests.jobs.conftest import Jobs
from tests.servers import Servers, wait_until


class Ear:
    """Hears the hints of changes."""

    def __init__(self, hints: PubSub) -> None:
        self._hints = hints
        self.heard: dict[UUID, int] = {}

    def listen(self) -> dict[UUID, int]:
        while message := self._hints.get_message(timeout=0.01):
            self.heard |= dict(read_changes(message["data"]))
        return self.heard

    def wait(self, job_id: UUID, version: int) -> None:
        wait_until(lambda: self.listen().get(job_id) == version, 5, f"version {version}; heard {self.heard}")


@pytest.fixture
def ear(servers: Servers) -> Iterator[Ear]:
    with (
        closing(Redis.from_url(servers.redis_url)) as redis,
        closing(PubSub(redis.connection_pool, ignore_subscribe_messages=True)) as hints,
    ):
        hints.subscribe(CHANGES)
        yield Ear(hints)


def canceled(jobs: Jobs, job_id: UUID) -> None:
    with transaction():
        cancel(job_id)


def cancel_and_fail(job_id: UUID) -> None:
    with transaction():
        cancel(job_id)
        raise ZeroDivisionError


def completed_with_rows(jobs: Jobs, job_id: UUID) -> None:
    with Run(*jobs.claimed(job_id)).completion():
        pass


def taken_back(jobs: Jobs, job_id: UUID) -> None:
    jobs.claimed(job_id)
    jobs.expire(job_id)
    take_back(job_id, WORKER_LOST)


CHANGED: list[Callable[[Jobs, UUID], object]] = [
    Jobs.claimed,
    canceled,
    completed_with_rows,
    taken_back,
    lambda jobs, job_id: Run(*jobs.claimed(job_id)).progress(1, 2, "rows"),
    lambda jobs, job_id: Run(*jobs.claimed(job_id)).complete(None),
    lambda jobs, job_id: jobs.claimed(job_id)[1].give_back(),
]


@pytest.mark.parametrize("change", CHANGED)
def test_who_listens_hears_of_every_change(jobs: Jobs, ear: Ear, change: Callable[[Jobs, UUID], object]):
    job_id = jobs.add()
    change(jobs, job_id)
    assert jobs.row(job_id).version > 1
    ear.wait(job_id, jobs.row(job_id).version)


def test_nothing_is_told_before_the_commit_nor_without_one(jobs: Jobs, ear: Ear):
    given_up, finished = jobs.add(), jobs.add()
    with pytest.raises(ZeroDivisionError):
        cancel_and_fail(given_up)
    with transaction():
        cancel(finished)
        assert ear.listen() == {}
    ear.wait(finished, 2)
    assert given_up not in ear.heard


def test_a_burst_is_few_messages(jobs: Jobs, servers: Servers):
    with closing(Redis.from_url(servers.redis_url)) as redis, closing(redis.pubsub()) as hints:
        hints.subscribe(CHANGES)
        ids = [new_id() for _ in range(1000)]
        for job_id in ids:
            tell_change(job_id, 2)
        heard: set[UUID] = set()
        count = 0

        def is_all_heard() -> bool:
            nonlocal count
            while message := hints.get_message(timeout=0.01, ignore_subscribe_messages=True):
                count += 1
                heard.update(job_id for job_id, _ in read_changes(message["data"]))
            return heard == set(ids)

        wait_until(is_all_heard)
        assert count < 50


def test_changes_are_written_and_read():
    changes = {new_id(): 2, new_id(): 0}
    assert dict(read_changes(write_changes(changes).encode())) == changes


# The same in every process that collects these tests.
JOB = "01a1fa25beca71b597676bb1a39bd545"


@pytest.mark.parametrize("junk", ["x", "x:1", "ÿ", JOB, f"{JOB}:x", f"{JOB}:1:2"])
def test_what_is_none_of_ours_is_a_value_error(junk: str):
    with pytest.raises(ValueError, match=r"."):
        read_changes(junk.encode())


def test_hints_go_on_whatever_has_kept_one_from_being_published(
    monkeypatch: pytest.MonkeyPatch,
):
    told, faults = threading.Event(), [KeyError("nobody foresaw this"), OSError("nor this")]

    class Broken:
        def publish(self, *_: object) -> None:
            if faults:
                raise faults.pop()
            told.set()

    monkeypatch.setattr(notifications, "_PAUSE_S", 0.01)
    monkeypatch.setattr(notifications, "redis_client", lambda *_: Broken())
    waker = Waker("redis://nowhere")
    waker.wake()
    wait_until(lambda: len(faults) == 1)
    waker.wake()
    wait_until(lambda: not faults)
    waker.wake()
    assert told.wait(10)


def test_a_redis_that_hangs_costs_nothing_and_no_memory(clean: None, servers: Servers):
    with socket.create_server(("127.0.0.1", 0), backlog=1) as server:
        app = create_base(servers.settings(redis_url=f"redis://127.0.0.1:{server.getsockname()[1]}/0"))
        with app.app_context():
            began = time.perf_counter()
            for _ in range(20_000):
                tell_change(new_id(), 1)
            seconds = time.perf_counter() - began
            waker: Waker = app.extensions["jobs.waker"]
            assert len(waker._changes) <= 10_000
            db.engine.dispose()
    # One wait for that Redis, times 20,000, would be an hour and more.
    assert seconds < 20
