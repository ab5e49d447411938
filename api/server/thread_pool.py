"""Threads that answer requests: a whole request goes in and a whole reply comes out.

An answer of the API is at most some hundred kilobytes and was made by one statement, so nothing is gained by streaming
it through a queue between a thread and the loop; what is large is a file, whose parts are read on threads of their own.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BytesIO
from queue import SimpleQueue
from sys import stderr
from typing import Any, NamedTuple, TypeVar

from flask import Flask

from api.flask_host import HOSTED, Hosted
from api.reply import Reply
from api.request import Request
from api.server.exchange import Exchange

T = TypeVar("T")
_Task = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]

# How many files are read at once. One that waits for a disk holds up no request.
_FILE_THREADS = 4


class Page(NamedTuple):
    """An answer of Flask's own; `fields` are its header fields as they go over the wire."""

    status: int
    fields: bytes
    body: bytes


class ThreadPool:
    """Calls functions, each in an application context, from an event loop."""

    def __init__(self, app: Flask, count: int) -> None:
        self._app = app
        self._count = count
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        self._is_started = False
        self._files = ThreadPoolExecutor(_FILE_THREADS, thread_name_prefix="files")

    def call(self, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Have a thread call `function`: what concurrent.futures does, for a third of its price."""
        if not self._is_started:
            self._is_started = True
            for number in range(self._count):
                threading.Thread(target=self._work, name=f"requests_{number}", daemon=True).start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._tasks.put((loop, future, partial(function, *args) if args else function))
        return future

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            loop, future, function = task
            try:
                with self._app.app_context():
                    outcome = partial(_settle, future, function())
            except BaseException as error:
                outcome = partial(_fail, future, error)
            # A loop that was closed meanwhile has nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(outcome)
            del task, future, function, outcome

    def page(self, exchange: Exchange, body: bytes) -> "asyncio.Future[Page]":
        """Have Flask answer what is not a declared route."""
        hosted = Hosted(exchange.request, exchange.began, exchange.limited)
        return self.call(self._page, _environ(exchange.request, body, hosted))

    def _page(self, environ: dict[str, Any]) -> Page:
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
            started[:] = int(status[:3]), headers
            return _no_write

        parts: Iterable[bytes] = self._app(environ, start_response)
        try:
            body = b"".join(parts)
        finally:
            if close := getattr(parts, "close", None):
                close()
        status, headers = started
        fields = "".join([f"{name.lower()}: {value}\r\n" for name, value in headers])
        return Page(status, fields.encode("latin-1"), body)

    async def send_file(self, exchange: Exchange, reply: Reply, own: bytes) -> None:
        """Send a reply's file, as fast as its client takes it. Raises: ClientGone, TimeoutError."""
        assert reply.file
        loop = asyncio.get_running_loop()
        parts = iter(reply.file)
        try:
            exchange.begin(reply, own)
            if exchange.request.method != "HEAD":
                while part := await loop.run_in_executor(self._files, next, parts, b""):
                    await exchange.part(part)
            exchange.finish()
        finally:
            reply.file.close()

    def close(self) -> None:
        """End the threads, each after what it is at."""
        for _ in range(self._count if self._is_started else 0):
            self._tasks.put(None)
        self._files.shutdown(wait=False)


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _no_write(data: bytes) -> None:
    raise NotImplementedError("answers are returned, not written")


def _environ(request: Request, body: bytes, hosted: Hosted) -> dict[str, Any]:
    """The WSGI environment (PEP 3333) of a request."""
    host = request.fields.get("host", "localhost")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "SERVER_NAME": host,
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": request.address,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": BytesIO(body),
        "wsgi.errors": stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        HOSTED: hosted,
    }
    for name, value in request.fields.items():
        environ["HTTP_" + name.upper().replace("-", "_")] = value
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    environ.pop("HTTP_CONTENT_LENGTH", None)
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ
