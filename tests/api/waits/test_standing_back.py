"""Clients that come back stand back while many others are to be told something, but never for long."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from uuid import UUID

import pytest
from flask import Flask

from api import job_waiters
from api.job_waiters import JobWaiters
from api.reply import Waiting
from api.server import stand_back
from api.server.stand_back import StandBack
from dues.ids import new_id
from dues.jobs.service import StatusDocument
from dues.reads import Query
from dues.reads.selection import Selection
from dues.stores.job_access import Viewing

BATCH = 1000


def while_many_wait(app: Flask, act: Callable[[JobWaiters, StandBack, list[UUID]], Awaitable[None]]) -> None:
    """Act while more than one batch wait, each for a job of its own."""
    query = Query(Selection(()))

    async def gone() -> None:
        await asyncio.get_running_loop().create_future()

    async def run() -> None:
        standing = StandBack()
        waiters = JobWaiters(app, 2 * BATCH, standing.busy)
        jobs = [new_id() for _ in range(BATCH + 1)]
        waits = [Waiting(job_id, 1, new_id(), query, 60, is_unchecked=True) for job_id in jobs]
        held = [asyncio.create_task(waiters.wait(waiting, gone)) for waiting in waits]
        try:
            await asyncio.sleep(0)
            await act(waiters, standing, jobs)
        finally:
            await waiters.stop()
            for one in held:
                one.cancel()
            await asyncio.gather(*held, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 30))


def begun_within(
    seconds: float, app: Flask, monkeypatch: pytest.MonkeyPatch, act: Callable[[JobWaiters], None]
) -> None:
    """Have one stand back while PostgreSQL hangs, act, and see it begin in time."""
    is_asked, goes_on = threading.Event(), threading.Event()

    def look(viewings: Sequence[Viewing], query: Query) -> list[StatusDocument | None]:
        is_asked.set()
        assert goes_on.wait(30)
        return [StatusDocument("{}", 1, False)] * len(viewings)

    async def stand(waiters: JobWaiters, standing: StandBack, jobs: list[UUID]) -> None:
        begun = asyncio.Event()
        try:
            await asyncio.to_thread(is_asked.wait, 10)
            standing.begin(begun.set)
            assert not begun.is_set()
            act(waiters)
            await asyncio.wait_for(begun.wait(), seconds)
        finally:
            goes_on.set()

    monkeypatch.setattr(job_waiters, "look", look)
    while_many_wait(app, stand)


def test_while_postgresql_hangs_nobody_stands_back_for_long(app: Flask, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stand_back, "LONGEST_S", 0.2)
    begun_within(4, app, monkeypatch, lambda waiters: None)


def test_who_stands_back_begins_though_some_job_always_moves(app: Flask, monkeypatch: pytest.MonkeyPatch):
    is_asked, begins = threading.Event(), threading.Event()
    moving: list[Callable[[], object]] = []

    def look(viewings: Sequence[Viewing], query: Query) -> list[StatusDocument | None]:
        is_asked.set()
        assert begins.wait(30)
        # One more becomes due during each look.
        for move in moving:
            move()
        return [StatusDocument("{}", 1, False)] * len(viewings)

    async def act(waiters: JobWaiters, standing: StandBack, jobs: list[UUID]) -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        await asyncio.to_thread(is_asked.wait, 10)
        moving.append(lambda: loop.call_soon_threadsafe(waiters._hear, jobs[-1], 0))
        standing.begin(begun.set)
        assert not begun.is_set()
        begins.set()
        await asyncio.wait_for(begun.wait(), 4)

    monkeypatch.setattr(job_waiters, "look", look)
    while_many_wait(app, act)


def test_each_stands_back_for_its_own_time_at_most_however_often_many_are_due():
    async def run() -> None:
        standing = StandBack()
        begun: list[int] = []
        standing.busy(True)
        for number in range(1000):
            standing.begin(partial(begun.append, number))
        # Calm comes and goes before anything could begin.
        until = asyncio.get_running_loop().time() + stand_back.LONGEST_S + 2
        while len(begun) < 1000 and asyncio.get_running_loop().time() < until:
            standing.busy(False)
            standing.busy(True)
            await asyncio.sleep(0.001)
        assert begun == list(range(1000))

    asyncio.run(run())


def test_few_begin_in_one_turn_of_the_loop_however_often_it_is_calm():
    async def run() -> None:
        standing = StandBack()
        begun: list[int] = []
        standing.busy(True)
        for number in range(1000):
            standing.begin(partial(begun.append, number))
        for _ in range(5):
            standing.busy(False)
        await asyncio.sleep(0)
        assert 0 < len(begun) <= 200
        await asyncio.sleep(0.2)
        assert begun == list(range(1000))

    asyncio.run(run())


def test_when_the_server_ends_nobody_stands_back_any_longer(app: Flask, monkeypatch: pytest.MonkeyPatch):
    begun_within(2, app, monkeypatch, JobWaiters.close)


def test_nobody_begins_to_wait_when_all_have_been_answered_at_the_end(app: Flask):
    """On threads, one may be on its way to the loop that knows who waits."""

    async def gone() -> None:
        await asyncio.get_running_loop().create_future()

    async def run() -> None:
        waiters = JobWaiters(app, 10)
        waiters.close()
        waiting = Waiting(new_id(), 1, new_id(), Query(Selection(())), 60, is_unchecked=True)
        assert await waiters.wait(waiting, gone) is None
        # Not even to be looked at: nobody would be there to end that.
        assert waiters._tasks == []

    asyncio.run(asyncio.wait_for(run(), 10))
