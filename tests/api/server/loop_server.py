"""The application on a loop of this process, behind the real protocol, so that tests can reach into it."""

import asyncio
import http.client
import threading
from collections.abc import Callable, Coroutine
from contextlib import closing
from typing import Any, TypeVar

from flask import Flask

from api.client_address import Proxies
from api.server.cells import application_for
from api.server.connections import Connections
from api.server.protocol import Connection

T = TypeVar("T")
Answer = tuple[int, dict[str, str], bytes]


class LoopServer:
    """Serves `app` on a port of its own, for the length of a `with` block."""

    def __init__(self, app: Flask, **limits: Any) -> None:
        self._app, self._limits = app, limits
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="loop-server")
        self.port = 0

    def __enter__(self) -> "LoopServer":
        self._thread.start()
        self.run(self._start)
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return asyncio.run_coroutine_threadsafe(function(), self._loop).result(30)

    async def _start(self) -> None:
        settings = self._app.extensions["settings"]
        self.application = application_for(self._app)
        self.application.start()
        limits = {"most": 1000, "keep_alive_s": 75.0} | self._limits
        self.connections = Connections(
            self.application, most_body=settings.max_body_bytes, proxies=Proxies("127.0.0.1"), **limits
        )
        self._listener = await self._loop.create_server(lambda: Connection(self.connections), "127.0.0.1", 0)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _stop(self) -> None:
        self._listener.close()
        self.application.stop_waiting()
        await self.connections.close(2.0)
        await self.application.stop()

    def ask(self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"") -> Answer:
        """One request on a connection of its own."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
