"""Waiting on a server of threads, such as `gunicorn wsgi:app`: as on the event loop, but each client that waits has a
thread to itself, so fewer may.

Everything else is the same, because the same code does it: one event loop, in a thread of its own, knows who waits.
"""

import asyncio
import os
import threading
import time
from collections.abc import Coroutine, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from flask import Flask, g

from api.compress import encode
from api.job_waiters import JobWaiters
from api.long_poll import COMMENT, event, finished_reply, longest_stream_s, reply_later
from api.pokes import Pokes, reply_after
from api.reply import Poke, Reply, Waiting
from api.request import Request

T = TypeVar("T")


class ThreadWaiters:
    """Holds at most `most` clients, whatever they wait for, each on the thread that calls."""

    def __init__(self, app: Flask, most: int) -> None:
        self._app, self._most = app, most
        self.longest_stream_s = longest_stream_s(app.extensions["settings"])
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: JobWaiters | None = None
        self._pokes: Pokes | None = None
        # How many more may be held in this process.
        self._places: threading.Semaphore
        self._pid = 0

    def hold(self, request: Request, reply: Reply) -> Reply | None:
        """The reply after the waiting that `reply` asks for: `reply` itself where it asks for none or there is no room,
        and None where it has to be made anew. In an application context."""
        if not self._most:
            return reply
        if reply.poke:
            return self._poke(request, reply, reply.poke)
        waiting = reply.waiting
        if waiting is None:
            return reply
        if waiting.streams:
            return replace(reply, body=None, file=_Events(self, reply, waiting))
        later = self._hold(reply, waiting)
        # What has been waited for may name something else that its client waits for.
        while later is not None and later.waiting is not None:
            later = self._hold(later, later.waiting)
        if later is not None:
            encode(request, later)
        return later

    def _hold(self, reply: Reply, waiting: Waiting) -> Reply | None:
        with self.place() as has_place:
            if not has_place:
                return replace(reply, waiting=None)
            with _holding():
                status = self.wait(waiting)
        if waiting.finish:
            return finished_reply(reply, waiting) if status and status.done else replace(reply, waiting=None)
        return reply_later(reply, waiting, status) if status else None

    def _poke(self, request: Request, first: Reply, poke: Poke) -> Reply:
        with self.place() as has_place, _holding():
            is_moved = has_place and self._wait_for_changes(poke)
        return reply_after(request, first, poke, is_moved=is_moved)

    @contextmanager
    def place(self) -> Iterator[bool]:
        """Whether one more client may be held: it has a place for the length of the block. That is counted here and not
        by those who wait on the loop, who come to be counted there only after others have asked for a place."""
        self._started()
        places = self._places
        has_place = self.is_open and places.acquire(blocking=False)
        try:
            yield has_place
        finally:
            if has_place:
                places.release()

    @property
    def is_open(self) -> bool:
        """Whether clients may still be held."""
        return self._most > 0

    def wait(self, waiting: Waiting) -> Any:
        return self._call(self._started().wait(waiting, _never))

    def _wait_for_changes(self, poke: Poke) -> bool:
        self._started()
        assert self._pokes
        return self._call(self._pokes.wait(poke, _never))

    def close(self) -> None:
        """Answer all clients that wait, and hold no more. It takes no lock: a signal may interrupt who holds it."""
        self._most = 0
        if self._loop and self._waiters and self._pokes and self._pid == os.getpid():
            self._loop.call_soon_threadsafe(self._waiters.close)
            self._loop.call_soon_threadsafe(self._pokes.close)

    def _started(self) -> JobWaiters:
        """The process's waiters; their loop is begun with the first, and anew in a child process."""
        with self._lock:
            if self._waiters is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._places = threading.Semaphore(self._most)
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="waiters-loop", daemon=True).start()
                self._waiters = JobWaiters(self._app, self._most)
                self._pokes = Pokes(self._app, self._most)
            return self._waiters

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


class _Events:
    """The events of a job until it is done, as a server of threads sends them. They have a place until they end, since
    their thread is nobody else's while it sends them, either."""

    def __init__(self, waiters: ThreadWaiters, reply: Reply, waiting: Waiting) -> None:
        self._events = _events(waiters, reply.body or b"", waiting)

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        self._events.close()


def _events(waiters: ThreadWaiters, first: bytes, waiting: Waiting) -> Generator[bytes, None, None]:
    yield first
    until = time.monotonic() + waiters.longest_stream_s
    with waiters.place() as has_place:
        while has_place and waiters.is_open and (left_s := until - time.monotonic()) > 0:
            status = waiters.wait(waiting.at_most(left_s))
            if status is None:
                return
            if status.version == waiting.version:
                yield COMMENT
                continue
            yield event(status)
            waiting = replace(waiting, version=status.version)
            if status.done:
                return


@contextmanager
def _holding() -> Iterator[None]:
    """For the length of the block, the present request does nothing but wait for something to be told."""
    since = time.perf_counter()
    try:
        yield
    finally:
        g.held_s = g.get("held_s", 0.0) + time.perf_counter() - since


async def _never() -> None:
    """A server of threads does not say when a client leaves."""
    await asyncio.Event().wait()
