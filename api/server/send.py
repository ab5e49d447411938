"""Answers and files, sent as fast as the client takes them, within a bound: a slow receiver holds no thread."""

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from typing import Protocol

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.http import Reply
from api.server.asgi import Headers, Send

# A client that has not taken a chunk after this has gone, or holds a socket to no purpose.
CHUNK_S = 60.0


_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


class Chunks(Protocol):
    """A file's bytes in parts; reading one may block for as long as a disk does."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class TooSlow(Exception):
    """The client stopped taking what it asked for; the connection is to be cut."""


async def send_answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    names = [name for name, _ in headers]
    # Without a length there are chunks, and a connection may be told to close: uvicorn knows how.
    is_plain = b"content-length" in names and b"connection" not in names
    if is_plain and (cycle := unanswered(send)):
        lines = b"".join([b"%b: %b\r\n" % pair for pair in (*cycle.default_headers, *headers)])
        shown = b"" if cycle.scope["method"] == "HEAD" else body
        send_bytes(cycle, b"%b%b\r\n%b" % (_STATUS_LINES[status], lines, shown))
        return
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def unanswered(send: Send) -> RequestResponseCycle | None:
    """uvicorn's own side of a request, where it is uvicorn that serves it, nothing has been sent, the client takes
    what is sent, and the connection will be kept: what `send_bytes` needs. None: use `send`, as ASGI has it."""
    cycle = getattr(send, "__self__", None)
    if type(cycle) is not RequestResponseCycle or cycle.response_started or cycle.disconnected:
        return None
    return None if cycle.flow.write_paused or not cycle.keep_alive else cycle


def send_bytes(cycle: RequestResponseCycle, answer: bytes) -> None:
    """Send a whole answer, head and body, as it is. uvicorn looks at every header of every answer twice, which takes
    longer than all else that a kept answer needs, whose headers it has seen."""
    cycle.response_started = cycle.response_complete = True
    cycle.waiting_for_100_continue = cycle.chunked_encoding = False
    cycle.expected_content_length = 0
    cycle.transport.write(answer)
    cycle.message_event.set()
    cycle.on_response()


async def send_file(send: Send, status: int, headers: Headers, file: Chunks) -> None:
    """Send `file` part by part. Raises: TooSlow."""
    loop = asyncio.get_running_loop()
    parts = iter(file)
    try:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        while part := await loop.run_in_executor(None, next, parts, b""):
            async with asyncio.timeout(CHUNK_S):
                await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except TimeoutError:
        raise TooSlow from None
    finally:
        file.close()


async def send_reply(send: Send, reply: Reply, *own: tuple[bytes, bytes]) -> None:
    """Send what a route has answered, with further headers of this answer's own."""
    await send_answer(send, reply.status, [*headers_of(reply), *own], reply.body or b"")


def headers_of(reply: Reply) -> Headers:
    headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    if reply.body is not None:
        headers.append((b"content-type", reply.mimetype.encode()))
        headers.append((b"content-length", str(len(reply.body)).encode()))
    return headers
