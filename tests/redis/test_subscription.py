"""The subscription outlives whatever happens to Redis, and says when something may have been missed."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from redis import Redis

from dues.ids import new_id
from dues.jobs.notifications import CHANGES, read_changes, write_changes
from dues.redis import subscription
from dues.redis.subscription import Subscription
from local.valkey import Valkey
from tests.servers import running


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    valkey = Valkey(tmp_path, durable=False)
    with running(valkey):
        yield valkey


class Ear:
    def __init__(self, url: str) -> None:
        self.url = url
        self.heard: list[tuple[UUID, int]] = []
        self.gaps = 0
        self.subscription = Subscription(url, CHANGES, self._hear, self._missed)

    def _hear(self, message: bytes) -> None:
        with contextlib.suppress(ValueError):
            self.heard += read_changes(message)

    def _missed(self) -> None:
        self.gaps += 1

    def publish(self, message: str | bytes) -> None:
        with closing(Redis.from_url(self.url)) as redis:
            redis.publish(CHANGES, message)

    async def hears(self, job_id: UUID) -> None:
        self.publish(write_changes({job_id: 7}))
        await until(lambda: (job_id, 7) in self.heard)


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


def run(url: str, scenario: Callable[[Ear], Coroutine[Any, Any, None]]) -> None:
    async def listen() -> None:
        ear = Ear(url)
        task = asyncio.create_task(ear.subscription.listen())
        await scenario(ear)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(listen(), 20))


def test_it_hears_and_lets_nonsense_pass(valkey: Valkey):
    async def scenario(ear: Ear) -> None:
        await until(lambda: ear.subscription.is_on)
        for junk in (b"\xff", "x:y", "", "1:2:3"):
            ear.publish(junk)
        await ear.hears(new_id())
        assert len(ear.heard) == 1
        assert ear.gaps == 1

    run(valkey.url, scenario)


def test_a_redis_that_goes_and_comes_is_noticed_both_times(valkey: Valkey):
    async def scenario(ear: Ear) -> None:
        await until(lambda: ear.subscription.is_on)
        valkey.stop()
        await until(lambda: not ear.subscription.is_on)
        assert ear.gaps == 2
        valkey.start()
        await until(lambda: ear.subscription.is_on)
        assert ear.gaps == 3
        await ear.hears(new_id())

    run(valkey.url, scenario)


def test_one_that_hangs_is_not_there(valkey: Valkey, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subscription, "_SILENT_S", 0.1)

    async def scenario(ear: Ear) -> None:
        await until(lambda: ear.subscription.is_on)
        # Silence alone is no sign.
        await asyncio.sleep(0.5)
        assert ear.subscription.is_on
        os.kill(valkey.pid, signal.SIGSTOP)
        await until(lambda: not ear.subscription.is_on)
        os.kill(valkey.pid, signal.SIGCONT)
        await until(lambda: ear.subscription.is_on)
        await ear.hears(new_id())

    run(valkey.url, scenario)
