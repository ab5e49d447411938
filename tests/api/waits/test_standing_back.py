"""Clients that come back stand back while many others are to be told something, but never for long."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import UUID

import pytest
from flask import Flask

from api import job_waiters
from api.job_waiters import ClientGone, JobWaiters
from api.reply import Waiting
from dues.ids import new_id
from dues.jobs.service import StatusDocument
from dues.reads import Query
from dues.reads.selection import Selection
from dues.stores.job_access import Viewing

BATCH = 1000


def while_many_wait(app: Flask, act: Callable[[JobWaiters, list[UUID]], Awaitable[None]]) -> None:
    """Act while more than one batch wait, each for a job of its own."""
    query = Query(Selection(()))

    async def gone() -> None:
        await asyncio.get_running_loop().create_future()

    async def run() -> None:
        waiters = JobWaiters(app, 2 * BATCH)
        jobs = [new_id() for _ in range(BATCH + 1)]
        waits = [Waiting(job_id, 1, new_id(), query, 60, is_unchecked=True) for job_id in jobs]
        held = [asyncio.create_task(waiters.wait(waiting, gone)) for waiting in waits]
        try:
            await asyncio.sleep(0)
            await act(waiters, jobs)
        finally:
            await waiters.stop()
            for one in held:
                one.cancel()
            with suppress(ClientGone):
                await asyncio.gather(*held, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 30))


def test_while_postgresql_hangs_nobody_stands_back_for_long(app: Flask, monkeypatch: pytest.MonkeyPatch):
    is_asked, goes_on = threading.Event(), threading.Event()

    def look(viewings: Sequence[Viewing], query: Query) -> list[StatusDocument | None]:
        is_asked.set()
        assert goes_on.wait(30)
        return [StatusDocument("{}", 1, False)] * len(viewings)

    async def act(waiters: JobWaiters, jobs: list[UUID]) -> None:
        begun = asyncio.Event()
        try:
            await asyncio.to_thread(is_asked.wait, 10)
            waiters.when_calm(begun.set)
            assert not begun.is_set()
            await asyncio.wait_for(begun.wait(), 4)
        finally:
            goes_on.set()

    monkeypatch.setattr(job_waiters, "look", look)
    monkeypatch.setattr(job_waiters, "_STAND_BACK_S", 0.2)
    while_many_wait(app, act)


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

    async def act(waiters: JobWaiters, jobs: list[UUID]) -> None:
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        await asyncio.to_thread(is_asked.wait, 10)
        moving.append(lambda: loop.call_soon_threadsafe(waiters._hear, jobs[-1], 0))
        waiters.when_calm(begun.set)
        assert not begun.is_set()
        begins.set()
        await asyncio.wait_for(begun.wait(), 4)

    monkeypatch.setattr(job_waiters, "look", look)
    while_many_wait(app, act)
