"""Answers and files, sent as fast as the client takes them, within a bound: a slow receiver holds no thread."""

import asyncio
from collections.abc import Iterator
from typing import Any, Protocol

import ujson

from api.front.asgi import Headers, Scope, Send
from dues.errors import Problem, Unavailable

# A client that has not taken a chunk after this has gone, or holds a socket to no purpose.
CHUNK_S = 60.0


class Chunks(Protocol):
    """A file's bytes in parts; reading one may block for as long as a disk does."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class TooSlow(Exception):
    """The client stopped taking what it asked for; the connection is to be cut."""


async def send_answer(send: Send, status: int, headers: Headers, body: bytes) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


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


async def send_problem(scope: Scope, send: Send, problem: Problem) -> None:
    """Problem details for what is refused before Flask sees it."""
    document: dict[str, Any] = {
        "type": f"/problems/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "instance": scope["path"],
        "code": problem.code,
    }
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    if isinstance(problem, Unavailable):
        problem.headers.setdefault("Retry-After", "1")
    headers += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    body = ujson.dumps(document, ensure_ascii=False, escape_forward_slashes=False).encode()
    await send_answer(send, problem.status, [*headers, (b"content-length", str(len(body)).encode())], body)
