"""Flask on a pool of threads: a whole request goes in and a whole answer comes out.

An answer of the API is at most some hundred kilobytes and was made by one statement, so nothing is gained by
streaming it through a queue between a thread and the loop; what is large is a file, and that the front door sends.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from queue import SimpleQueue
from sys import stderr
from typing import Any, TypeVar

from flask import Flask

from api.request_extras import DOOR, WAITS, Leftover
from api.server.asgi import Headers, Scope
from dues.stores.access import Access

T = TypeVar("T")
_Task = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]", Callable[[], Any]]


@dataclass
class Finished:
    """Flask's answer."""

    status: int
    headers: Headers
    body: bytes
    leftover: Leftover = field(default_factory=Leftover)


class FlaskThreads:
    """Calls a Flask application from an event loop."""

    def __init__(self, app: Flask, count: int) -> None:
        self._app = app
        self._count = count
        self._tasks: SimpleQueue[_Task] = SimpleQueue()
        self._is_started = False

    async def call(self, scope: Scope, body: bytes, access: Access | None = None) -> Finished:
        """The answer to a request whose body has been read; `access` is what its caller may do, where that is known."""
        return await self.hand(partial(self._run, environ(scope, body, access)))

    async def run(self, function: Callable[..., T], *args: object) -> T:
        """Call a function in an application context of its own."""

        def call() -> T:
            with self._app.app_context():
                return function(*args)

        return await self.hand(call)

    def hand(self, function: Callable[[], T]) -> "asyncio.Future[T]":
        """Have a thread call `function`: what concurrent.futures does, for a third of its price."""
        if not self._is_started:
            self._is_started = True
            for number in range(self._count):
                threading.Thread(target=self._work, name=f"flask_{number}", daemon=True).start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._tasks.put((loop, future, function))
        return future

    def _work(self) -> None:
        while True:
            loop, future, function = self._tasks.get()
            try:
                outcome = partial(_settle, future, function())
            except BaseException as error:
                outcome = partial(_fail, future, error)
            # A loop that was closed meanwhile has nobody left to tell.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(outcome)
            del future, function, outcome

    def _run(self, env: dict[str, Any]) -> Finished:
        finished = Finished(500, [], b"", env[DOOR])

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[..., Any]:
            finished.status = int(status[:3])
            finished.headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
            return _no_write

        parts: Iterable[bytes] = self._app(env, start_response)
        try:
            finished.body = b"".join(parts)
        finally:
            close = getattr(parts, "close", None)
            if close:
                close()
        return finished


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


def _no_write(data: bytes) -> None:
    raise NotImplementedError("answers are returned, not written")


def environ(scope: Scope, body: bytes, access: Access | None = None) -> dict[str, Any]:
    """The WSGI environment (PEP 3333) of an ASGI request."""
    server, client = scope.get("server") or ("localhost", 80), scope.get("client") or ("", 0)
    env: dict[str, Any] = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": "",
        "PATH_INFO": scope["path"].encode().decode("latin-1"),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": server[0] or "localhost",
        "SERVER_PORT": str(server[1] or 80),
        "SERVER_PROTOCOL": f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": client[0],
        "REMOTE_PORT": str(client[1]),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": BytesIO(body),
        "wsgi.errors": stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    env[DOOR] = env[WAITS] = Leftover(access)
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if "_" in name:
            # A proxy may look at `x-name` and pass `x_name` by; in an environment both are HTTP_X_NAME.
            continue
        key = "HTTP_" + name.upper().replace("-", "_")
        if key in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"):
            key = key[5:]
        env[key] = f"{env[key]},{value}" if key in env else value
    env.pop("HTTP_TRANSFER_ENCODING", None)
    env["CONTENT_LENGTH"] = str(len(body)) if body else env.get("CONTENT_LENGTH", "")
    return env
