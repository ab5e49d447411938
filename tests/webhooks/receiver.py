"""A receiver of webhooks on loopback, which answers as a test tells it to."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import ujson

from dues.webhooks.outbound import Target, parse_target


@dataclass(frozen=True)
class Call:
    """A request as it came in; names of headers are lower-case."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        event: dict[str, Any] = ujson.loads(self.body)
        return event


@dataclass(frozen=True)
class Answer:
    status: int = 204
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


class Receiver:
    """`calls` are all requests so far; `answer` makes the answer to one, or None to hang up without any;
    it comes after `delay_s`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.delay_s = 0.0
        self.answer: Callable[[Call], Answer | None] = lambda call: Answer()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hooks?k=1"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [call.event for call in self.calls]

    def always(self, status: int, body: bytes = b"", **headers: str) -> None:
        named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        self.answer = lambda call: Answer(status, named, body)

    def hang_up(self) -> None:
        self.answer = lambda call: None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                call = Call(self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                receiver.calls.append(call)
                time.sleep(receiver.delay_s)
                answer = receiver.answer(call)
                self.close_connection = True
                if answer is None:
                    return
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.end_headers()
                # Who has read enough of it may be gone.
                with suppress(ConnectionError):
                    self.wfile.write(answer.body)

            def log_message(self, *args: object) -> None:
                """Nobody reads it."""

        return Handler


class Dripper:
    """Takes a request, and then sends `first` and a byte every `every_s`, for as long as somebody reads."""

    def __init__(self, first: bytes, every_s: float = 0.05) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._first, self._every_s = first, every_s
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            try:
                connection.sendall(self._first)
                while True:
                    connection.sendall(b"x")
                    time.sleep(self._every_s)
            except OSError:
                return

    def __enter__(self) -> "Dripper":
        return self

    def __exit__(self, *raised: object) -> None:
        self._listener.close()
        self._thread.join(5)

    def target(self) -> Target:
        return parse_target(f"http://127.0.0.1:{self.port}/", "127.0.0.1")
