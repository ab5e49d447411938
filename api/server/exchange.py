"""One request on a connection, and its answer."""

import asyncio
import time
from typing import Protocol

from api.job_waiters import ClientGone
from api.limits import Limit, Used
from api.reply import Reply
from api.request import Request

# A client that has not taken what was sent to it after this has gone, or holds a socket to no purpose.
SEND_S = 60.0


class Wire(Protocol):
    """What an exchange needs of its connection (api/server/protocol.py). `fields` are header fields as they go over the
    wire, each line ended by CRLF; the connection adds its own."""

    async def read_body(self) -> bytes: ...

    async def read_part(self) -> bytes: ...

    def answer(self, status: int, fields: bytes, content: bytes) -> None:
        """Send a whole answer."""

    def begin(self, status: int, fields: bytes, *, has_length: bool) -> None:
        """Begin an answer that is sent in parts."""

    def part(self, data: bytes) -> None: ...

    async def drain(self) -> None:
        """Return once the client has taken enough of what was sent."""

    def finish(self) -> None:
        """End an answer that was sent in parts."""

    def abort(self) -> None: ...


class Exchange:
    """A request, what has been found out about it, and the way back to its client.

    limited: what it counts against, and how much of that is used. held_s: for how long it has done nothing but wait for
    something to be told. is_begun: an answer has been begun that is sent in parts, and is not at its end.
    """

    __slots__ = "_gone _has_ended _wire began held_s is_answered is_begun is_gone limited request".split()

    def __init__(self, wire: Wire, request: Request) -> None:
        self._wire = wire
        self.request = request
        self.began = time.perf_counter()
        self.held_s = 0.0
        self.limited: tuple[Limit, Used] | None = None
        self.is_answered = self.is_begun = False
        self.is_gone = False
        self._has_ended = False
        self._gone: asyncio.Future[None] | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.perf_counter() - self.began

    async def body(self) -> bytes:
        """The body as it was sent, cut one byte past the most that one may have.

        Raises: Problem for one that is malformed or too slow; ClientGone.
        """
        return await self._wire.read_body()

    async def body_part(self) -> bytes:
        """The next part of the body of a request that is read in parts, or b"" at its end. Raises: as `body()`."""
        return await self._wire.read_part()

    def send(self, status: int, fields: bytes, content: bytes) -> None:
        """Send a whole answer; to HEAD without its content. A client that has left is sent nothing."""
        if not (self.is_gone or self.is_answered):
            self.is_answered = True
            self._wire.answer(status, fields, b"" if self.request.method == "HEAD" else content)

    def send_reply(self, reply: Reply, own: bytes) -> None:
        """The same for a reply whose body is at hand, with further fields of this answer's own."""
        fields = field_lines(reply) + own
        if reply.body is None and reply.status not in (204, 304):
            fields += b"content-length: 0\r\n"
        self.send(reply.status, fields, reply.body or b"")

    def begin(self, reply: Reply, own: bytes) -> None:
        """Begin an answer that is sent part by part, and ended by `finish()`. Raises: ClientGone."""
        if self.is_gone:
            raise ClientGone
        self.is_answered = self.is_begun = True
        self._wire.begin(reply.status, field_lines(reply) + own, has_length="Content-Length" in reply.headers)

    async def part(self, data: bytes) -> None:
        """Send a part, and wait until the client has taken enough of it. Raises: ClientGone, TimeoutError."""
        if self.is_gone:
            raise ClientGone
        if data and self.request.method != "HEAD":
            self._wire.part(data)
            async with asyncio.timeout(SEND_S):
                await self._wire.drain()
        if self.is_gone:
            raise ClientGone

    def finish(self) -> None:
        self.is_begun = False
        if not self.is_gone:
            self._wire.finish()

    def abort(self) -> None:
        """End the connection, whose client takes no answer or cannot be given the whole of it: cut off, it is not taken
        for one. After a whole answer it is the next request's."""
        if not self.is_gone and (self.is_begun or not self.is_answered):
            self._wire.abort()

    def leave(self) -> None:
        """The client has left."""
        self.is_gone = True
        self.half_close()

    def half_close(self) -> None:
        """The client sends no more: it may have left, or only wait for its answer."""
        self._has_ended = True
        if self._gone and not self._gone.done():
            self._gone.set_result(None)

    async def gone(self) -> None:
        """Return when the client has left, or may have: one that waits is then answered at once."""
        if not self._has_ended:
            self._gone = asyncio.get_running_loop().create_future()
            await self._gone


def field_lines(reply: Reply) -> bytes:
    """A reply's header fields as they go over the wire."""
    return "".join([f"{name.lower()}: {value}\r\n" for name, value in reply.fields()]).encode("latin-1")
