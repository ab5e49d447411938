"""Waiting on a server of threads, such as `gunicorn wsgi:app -k gthread`: as behind the front door, but whoever waits
has a thread to himself, so fewer may.

Everything else is the same, because the same code does it: one event loop, in a thread of its own, knows who waits.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from dataclasses import replace
from http import HTTPStatus
from typing import Any, TypeVar

from flask import Flask

from api.long_poll import COMMENT, Waiting, answer_later, event, finish
from api.request_extras import WAITS, Leftover
from api.server.asgi import Message
from api.server.job_waiters import Waits
from api.server.thread_pool import Finished
from config import Settings

T = TypeVar("T")
StartResponse = Callable[..., Any]


def init_threaded(app: Flask) -> None:
    """Have `app` hold clients by itself on a server that gives requests threads."""
    settings: Settings = app.extensions["settings"]
    # Half of the threads, so that others are served meanwhile.
    app.wsgi_app = Threaded(app, settings.web_threads // 2)  # type: ignore[method-assign]


class Threaded:
    """The WSGI application around Flask's."""

    def __init__(self, app: Flask, most: int) -> None:
        self._app, self._wsgi, self._most = app, app.wsgi_app, most
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waits: Waits | None = None
        self._pid = 0

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        # Another server in front of this one holds clients; or there are no threads to do it with.
        if WAITS in environ or not environ.get("wsgi.multithread") or not self._most:
            return self._wsgi(environ, start_response)
        leftover = environ[WAITS] = Leftover()
        started: list[Any] = []

        def keep(*args: Any) -> Callable[..., Any]:
            started[:] = args
            return _no_write

        parts = self._wsgi(environ, keep)
        if leftover.waiting is None:
            start_response(*started)
            return parts
        status, headers = started[:2]
        first = Finished(int(status[:3]), [(n.lower().encode(), v.encode()) for n, v in headers], b"".join(parts))
        if close := getattr(parts, "close", None):
            close()
        return self._held(environ, start_response, first, leftover.waiting)

    def _held(
        self, environ: dict[str, Any], start_response: StartResponse, first: Finished, waiting: Waiting
    ) -> Iterable[bytes]:
        if waiting.streams:
            _start(start_response, first)
            return self._events(first, waiting)
        if not self._started().has_room:
            return _send(start_response, first)
        status = self._call(self._started().wait(waiting, _never))
        if waiting.finish:
            if status and status.done:
                with self._app.app_context():
                    first = finish(first, waiting)
            return _send(start_response, first)
        if status is None:
            environ[WAITS] = Leftover()
            return self._wsgi(environ, start_response)
        return _send(start_response, answer_later(first, waiting, status))

    def _events(self, first: Finished, waiting: Waiting) -> Iterator[bytes]:
        yield first.body
        while self._started().has_room and (status := self._call(self._started().wait(waiting, _never))):
            if status.version == waiting.version:
                yield COMMENT
                continue
            yield event(status)
            waiting = replace(waiting, version=status.version)
            if status.done:
                return

    def _started(self) -> Waits:
        """The process's waits; their loop is begun with the first, and anew in a child process."""
        with self._lock:
            if self._waits is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name="waits-loop", daemon=True).start()
                self._waits = Waits(self._app, self._most)
            return self._waits

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        assert self._loop
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


def _start(start_response: StartResponse, finished: Finished) -> None:
    status = HTTPStatus(finished.status)
    headers = [(name.decode(), value.decode()) for name, value in finished.headers]
    start_response(f"{status.value} {status.phrase}", headers)


def _send(start_response: StartResponse, finished: Finished) -> list[bytes]:
    _start(start_response, finished)
    return [finished.body]


async def _never() -> Message:
    """A server of threads does not say when a client goes."""
    await asyncio.Event().wait()
    raise AssertionError


def _no_write(data: bytes) -> None:
    raise NotImplementedError("answers are returned, not written")
