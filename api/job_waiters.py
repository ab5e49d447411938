"""Clients that wait for jobs, on an event loop: each costs a socket and a few kilobytes, never a thread.

A waiter is woken by a hint (dues/redis/subscription.py), or when its time is up. Before a client is told anything, all
waiters that are woken in one turn are looked at together: one statement reads their jobs, for the tokens that may still
see them. Since hints may be lost, PostgreSQL is also asked, in one statement for all jobs that are waited for, which of
them have moved: when a client begins to wait, every few seconds, and every second while there are no hints.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from typing import TypeVar
from uuid import UUID

from flask import Flask

from api.reply import Waiting
from config import Settings
from dues.jobs.notifications import CHANGES, read_changes
from dues.jobs.service import StatusDocument, find_moved
from dues.observability.metrics import WAITING_CLIENTS
from dues.redis.subscription import Subscription
from dues.stores.job_access import look

log = logging.getLogger("dues.waits")

# How often PostgreSQL is asked which jobs have moved while hints arrive, and while they do not.
_ASK_EVERY_S = 3.0
_ASK_WITHOUT_HINTS_EVERY_S = 1.0
# The most that are looked at together, so that the first of ten thousand need not wait for the last.
_BATCH = 1000
# While PostgreSQL is away, a client is let go this long after its time is up.
_LATEST_S = 4.0
_REST_S = 0.5

T = TypeVar("T")


class Waiter:
    """One client that is held, in the task that answers it. `version` is what is known of its job."""

    __slots__ = ("is_let_go", "is_over", "status", "task", "timer", "version", "waiting")

    def __init__(self, waiting: Waiting) -> None:
        self.waiting = waiting
        self.version = waiting.version
        self.is_over = False
        self.is_let_go = False
        self.status: StatusDocument | None = None
        self.task = asyncio.current_task()
        self.timer: asyncio.TimerHandle

    def is_served_by(self, status: StatusDocument) -> bool:
        if self.is_over or status.done:
            return True
        return self.waiting.finish is None and status.version != self.version

    def let_go(self, status: StatusDocument | None) -> None:
        if self.task and not self.is_let_go:
            self.is_let_go, self.status = True, status
            self.task.cancel()


class ClientGone(Exception):
    """The client has left: there is nobody to answer."""


def _tell_nobody(is_busy: bool) -> None:
    """For a server on which no request stands back."""


class JobWaiters:
    """All the clients that wait in a process, at most `most`. Used on one event loop only."""

    def __init__(self, app: Flask, most: int, tell_busy: Callable[[bool], None] = _tell_nobody) -> None:
        """`tell_busy` is told when more become due than are looked at together, and when they are answered."""
        settings: Settings = app.extensions["settings"]
        self._app, self._most, self._tell_busy = app, most, tell_busy
        self._waiters: dict[UUID, set[Waiter]] = {}
        self._count = 0
        self._is_closing = False
        # Jobs that a client has begun to wait for, and the waiters to be looked at, in order.
        self._unsure: set[UUID] = set()
        self._due: dict[Waiter, None] = {}
        self._ask_at = 0.0
        self._news = asyncio.Event()
        self._subscription = Subscription(settings.redis_url, CHANGES, self._read_hints, self._doubt)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="waiters")
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def has_room(self) -> bool:
        """Whether one more may wait."""
        return self._count < self._most and not self._is_closing

    @property
    def count(self) -> int:
        return self._count

    async def wait(self, waiting: Waiting, gone: Callable[[], Awaitable[object]]) -> StatusDocument | None:
        """The job's status when there is something to tell, or `waiting.seconds` are over. None: it is not known, or
        the client may not see it any more: make the answer anew. `gone()` returns when the client has left.

        Raises: ClientGone.
        """
        if self._is_closing:
            return None
        waiter = Waiter(waiting)
        waiter.timer = asyncio.get_running_loop().call_later(waiting.seconds, self._end, waiter)
        self._add(waiter)
        try:
            # The task waits for its client to leave. Waking it cancels that, as a timeout would, at a fifth of the
            # cost.
            await gone()
        except asyncio.CancelledError:
            if waiter.is_let_go and waiter.task and waiter.task.uncancel() == 0:
                return waiter.status
            raise
        finally:
            waiter.timer.cancel()
            self._remove(waiter)
        raise ClientGone

    def close(self) -> None:
        """Answer every waiter, and accept no more of them."""
        self._is_closing = True
        self._tell_busy(False)
        for waiters in list(self._waiters.values()):
            for waiter in waiters:
                self._end(waiter)

    async def stop(self) -> None:
        """End the tasks in the background."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._thread.shutdown(wait=False)

    def _add(self, waiter: Waiter) -> None:
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._attend()), asyncio.create_task(self._subscription.listen())]
        job_id = waiter.waiting.job_id
        self._waiters.setdefault(job_id, set()).add(waiter)
        self._count += 1
        if waiter.waiting.is_unchecked:
            self._look_at(waiter)
        else:
            # It may have moved since its answer was made.
            self._unsure.add(job_id)
            self._news.set()

    def _remove(self, waiter: Waiter) -> None:
        job_id = waiter.waiting.job_id
        waiters = self._waiters[job_id]
        waiters.remove(waiter)
        if not waiters:
            del self._waiters[job_id]
        self._due.pop(waiter, None)
        waiter.task = None
        self._count -= 1
        self._news.set()

    def _end(self, waiter: Waiter) -> None:
        waiter.is_over = True
        self._look_at(waiter)
        waiter.timer.cancel()
        waiter.timer = asyncio.get_running_loop().call_later(_LATEST_S, waiter.let_go, None)

    def _look_at(self, waiter: Waiter) -> None:
        self._due[waiter] = None
        self._news.set()

    def _read_hints(self, message: bytes) -> None:
        # What others publish on this channel is not ours to understand.
        with suppress(ValueError):
            for job_id, version in read_changes(message):
                self._hear(job_id, version)

    def _hear(self, job_id: UUID, version: int) -> None:
        """The job is at `version`, or at 0 if that is not known."""
        for waiter in self._waiters.get(job_id, ()):
            if version == 0 or version > waiter.version:
                self._look_at(waiter)

    def _doubt(self) -> None:
        self._ask_at = 0.0
        self._news.set()

    async def _attend(self) -> None:
        loop, is_failing = asyncio.get_running_loop(), False
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(self._ask_at - loop.time(), 0.01)):
                    await self._news.wait()
            self._news.clear()
            WAITING_CLIENTS.set(self._count)
            try:
                await self._look()
                for asked in self._doubtful(loop.time()):
                    await self._ask(asked)
                    await self._look()
            except Exception as error:
                if not is_failing:
                    log.warning("clients that wait for jobs are kept waiting: %s", type(error).__name__, exc_info=error)
                is_failing = True
                self._ask_at = loop.time() + _REST_S
                await asyncio.sleep(_REST_S)
            else:
                is_failing = False

    def _doubtful(self, now: float) -> list[list[UUID]]:
        """The jobs to ask for: now and then all, else those that a client has begun to wait for. In parts, so that due
        waiters can be answered in between."""
        asked, self._unsure = list(self._unsure), set()
        if now >= self._ask_at:
            asked = list(self._waiters)
            self._ask_at = now + (_ASK_EVERY_S if self._subscription.is_on else _ASK_WITHOUT_HINTS_EVERY_S)
        return [asked[start : start + _BATCH] for start in range(0, len(asked), _BATCH)]

    async def _ask(self, asked: list[UUID]) -> None:
        """Find out which jobs have moved without a hint."""
        seen = {job_id: min(w.version for w in self._waiters[job_id]) for job_id in asked if job_id in self._waiters}
        if seen:
            for job_id, version in (await self._run(find_moved, seen)).items():
                self._hear(job_id, version or 0)

    async def _look(self) -> None:
        """Read the jobs that are due now, and wake each waiter whose job has changed. What becomes due meanwhile may
        have its turn after that: it need never end."""
        left = len(self._due)
        self._tell_busy(left > _BATCH and not self._is_closing)
        try:
            while self._due and left > 0:
                left -= await self._look_at_some()
        finally:
            self._tell_busy(False)

    async def _look_at_some(self) -> int:
        """Returns: how many have been looked at."""
        # Those that want the same fields as the first: nearly all do.
        query = next(iter(self._due)).waiting.query
        batch = list(islice((waiter for waiter in self._due if waiter.waiting.query is query), _BATCH))
        for waiter in batch:
            # Before they are looked at: what is heard meanwhile is looked at again.
            del self._due[waiter]
        try:
            viewings = [(waiter.waiting.token_id, waiter.waiting.job_id) for waiter in batch]
            statuses = await self._run(look, viewings, query)
        except BaseException:
            self._due.update(dict.fromkeys(waiter for waiter in batch if waiter.task))
            raise
        for waiter, status in zip(batch, statuses, strict=True):
            if status is None or waiter.is_served_by(status):
                waiter.let_go(status)
            else:
                waiter.version = status.version
        return len(batch)

    async def _run(self, function: Callable[..., T], *args: object) -> T:
        """Call what blocks, in a thread and an application context of its own."""

        def call() -> T:
            with self._app.app_context():
                return function(*args)

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
