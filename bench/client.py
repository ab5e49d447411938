"""A small HTTP/1.1 client on asyncio: one kept-alive connection, one request at a time, complete answers."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import ujson


@dataclass(frozen=True)
class Answer:
    """An answer. Header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return ujson.loads(self.body)


class Client:
    """Reconnects if the server has closed the connection. A request that was cut off raises ConnectionError.

    A server may close an idle connection just as a request is sent on it. So a GET on a connection that was used before
    is sent once more on a new connection, if not a byte of its answer has arrived (RFC 9112, 9.3.1). For each such
    connection, the seconds that it had been idle are appended to `reopened`.
    """

    def __init__(self, port: int, token: str, reopened: list[float]) -> None:
        self._port, self._token = port, token
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._used_at = 0.0
        self._was_answered = False
        self._reopened = reopened

    async def request(self, method: str, path: str, document: Any = None, **headers: str) -> Answer:
        """Raises: OSError or asyncio.IncompleteReadError if the server cannot be reached."""
        was_open, idle_s = self._streams is not None, time.monotonic() - self._used_at
        try:
            return await self._send(method, path, document, headers)
        except (ConnectionError, asyncio.IncompleteReadError):
            if method != "GET" or not was_open or self._was_answered:
                raise
            self._reopened.append(idle_s)
            return await self._send(method, path, document, headers)
        finally:
            self._used_at = time.monotonic()

    async def _send(self, method: str, path: str, document: Any, headers: dict[str, str]) -> Answer:
        self._was_answered = False
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        body = b"" if document is None else ujson.dumps(document).encode()
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {self._token}"]
        if body:
            lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            return await self._read(reader)
        except BaseException:
            self.close()
            raise

    async def _read(self, reader: asyncio.StreamReader) -> Answer:
        first = await reader.read(1)
        self._was_answered = bool(first)
        head = (first + await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *lines = head.split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            self.close()
        return Answer(int(status.split()[1]), headers, body)

    def close(self) -> None:
        if self._streams:
            self._streams[1].close()
        self._streams = None
