"""Clients that wait for something new to pull (`GET /v1/sync` with `Prefer: wait`), on an event loop.

While there are any, PostgreSQL is asked every second, in one statement for all of them, for whom there is something
new. A client that is held costs a socket, and a write nothing.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from typing import Any

from flask import Flask

from api.compress import encode
from api.job_waiters import ClientGone
from api.reply import Poke, Reply
from api.request import Request
from dues.observability.metrics import CLIENTS_OF_CHANGES
from dues.sync.moved import Watch, find_moved

log = logging.getLogger("dues.waits")

_ASK_EVERY_S = 1.0
# The most that are asked for in one statement.
_BATCH = 500


class Pokes:
    """All the clients of a process that wait so, at most `most`. Used on one event loop only."""

    def __init__(self, app: Flask, most: int) -> None:
        self._app, self._most = app, most
        self._waiters: dict[asyncio.Future[bool], Watch] = {}
        self._is_closing = False
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pokes")

    @property
    def has_room(self) -> bool:
        return len(self._waiters) < self._most and not self._is_closing

    async def wait(self, poke: Poke, gone: Callable[[], Awaitable[object]]) -> bool:
        """Whether there is something new; False when the time is over. `gone()` returns when the client has left.

        Raises: ClientGone.
        """
        if not self.has_room:
            return False
        loop = asyncio.get_running_loop()
        moved: asyncio.Future[bool] = loop.create_future()
        self._waiters[moved] = poke.watch
        CLIENTS_OF_CHANGES.set(len(self._waiters))
        if self._task is None or self._task.done():
            self._task = loop.create_task(self._attend())
        leaving: asyncio.Future[Any] = asyncio.ensure_future(gone())
        first: list[asyncio.Future[Any]] = [moved, leaving]
        try:
            await asyncio.wait(first, timeout=poke.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._waiters[moved]
            CLIENTS_OF_CHANGES.set(len(self._waiters))
            leaving.cancel()
        if leaving.done() and not leaving.cancelled() and not moved.done():
            raise ClientGone
        return moved.done() and moved.result()

    def close(self) -> None:
        """Answer all that wait, and accept no more."""
        self._is_closing = True
        for moved in self._waiters:
            if not moved.done():
                moved.set_result(False)

    async def stop(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown(wait=False)

    async def _attend(self) -> None:
        is_failing = False
        while self._waiters:
            await asyncio.sleep(_ASK_EVERY_S)
            try:
                await self._ask()
            except Exception as error:
                if not is_failing:
                    log.warning("clients that wait for changes are kept waiting", exc_info=error)
                is_failing = True
            else:
                is_failing = False

    async def _ask(self) -> None:
        waiters = iter(list(self._waiters.items()))
        while batch := list(islice(waiters, _BATCH)):
            places = await asyncio.get_running_loop().run_in_executor(
                self._thread, self._find_moved, [watch for _, watch in batch]
            )
            for place in places:
                if not batch[place][0].done():
                    batch[place][0].set_result(True)

    def _find_moved(self, watches: list[Watch]) -> set[int]:
        with self._app.app_context():
            return find_moved(watches)


def reply_after(request: Request, first: Reply, poke: Poke, *, is_moved: bool) -> Reply:
    """The reply to a client that was held: what is new, in an application context, or the first one."""
    later = replace(first, poke=None)
    if is_moved:
        try:
            later = poke.finish()
        except Exception:
            # Its right to ask may be gone: it was told that there is nothing new, and asks again.
            log.info("a client that waited for changes is told of none", exc_info=True)
        else:
            encode(request, later)
    later.headers["Preference-Applied"] = f"wait={poke.seconds}"
    return later
