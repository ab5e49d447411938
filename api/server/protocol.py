"""A connection, between the kernel and the application: bytes become requests, one at a time, and answers bytes.

What servers usually promise is promised here: a request is read once and is frozen when its head has ended; nothing
that follows changes it. Heads, bodies, their framing and what waits behind a request are bounded in bytes, and each
step in time. What is not HTTP/1.1 to the letter is refused with problem details, and the connection closed. A client
that leaves is noticed, one that only closes its own side is answered, and one that is told to go is told so first.
"""

import asyncio
import logging
from http import HTTPStatus
from typing import cast

from api.http import problem_reply
from api.job_waiters import ClientGone
from api.request import OPERATORS, make_request, new_request_id
from api.server.connections import Connections
from api.server.exchange import SEND_S, Exchange, field_lines
from api.server.http1 import LARGEST_HEAD, ChunkedBody, Head, SizedBody, check_partial, cut_off, parse_head
from dues.errors import Problem, RequestTimeout, Unavailable

log = logging.getLogger("dues.server")

# A head must be here within this from the connection's or its own first byte; a body within `_BODY_S`, one that is read
# in parts within `_UPLOAD_S`, and neither may pause for longer than `_PAUSE_S`. Seconds.
HEAD_S = 10.0
_BODY_S, _UPLOAD_S, _PAUSE_S = 60.0, 900.0, 15.0
# After the last answer on a connection so long is waited for the client to take it and close, and so much is read.
_LINGER_S, _LINGER_BYTES = 2.0, 1024 * 1024
# More than this of what follows a request is left to the kernel until the request is answered.
_AHEAD = 65_536

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}
_CLOSE = b"connection: close\r\n"

_HEAD, _BODY, _ANSWER, _LINGER = range(4)


class Connection(asyncio.Protocol):
    """One client's connection.

    It reads a head, then its body, then nothing until the request is answered; what a client sends meanwhile waits in
    `_data`, and past `_AHEAD` bytes in the kernel. So does a body that is read in parts, until it is asked for.
    """

    __slots__ = (
        "_body _body_ends_at _body_ready _data _drained _exchange _expects _framed _has_ended _in_parts _is_chunked "
        "_is_next_due _is_old _is_reading _keep _lingered _peer _shared _state _transport deadline"
    ).split()

    def __init__(self, shared: Connections) -> None:
        self._shared = shared
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._peer = ""
        self._data = bytearray()
        self._state = _HEAD
        self._exchange: Exchange | None = None
        self._keep = self._is_reading = True
        self._has_ended = self._is_next_due = self._is_chunked = self._is_old = False
        self._drained: asyncio.Future[None] | None = None
        self._lingered = 0
        self._reset_body()
        self.deadline = float("inf")

    def _reset_body(self) -> None:
        self._framed: ChunkedBody | SizedBody = SizedBody(0)
        self._body = bytearray()
        self._expects = self._in_parts = False
        self._body_ends_at = 0.0
        self._body_ready: asyncio.Future[bytes] | None = None

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        shared = self._shared
        shared.add(self)
        peer = transport.get_extra_info("peername")
        self._peer = shared.proxies.client(str(peer[0]) if isinstance(peer, tuple) else "", None)
        self.deadline = shared.loop.time() + HEAD_S
        if shared.is_overfull():
            shared.note_refusal()
            self._refuse(Unavailable("too many clients are connected", code="overloaded"))

    def connection_lost(self, error: Exception | None) -> None:
        self._shared.discard(self)
        self.deadline = float("inf")
        self._data.clear()
        if self._exchange:
            self._exchange.leave()
        if self._body_ready and not self._body_ready.done():
            self._body_ready.set_exception(ClientGone())
        self.resume_writing()

    def data_received(self, data: bytes) -> None:
        if self._state == _LINGER:
            self._lingered += len(data)
            if self._lingered > _LINGER_BYTES:
                self._transport.abort()
            return
        self._data += data
        self._proceed()
        if self._is_reading and len(self._data) > _AHEAD:
            self._is_reading = False
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; what it has asked for it is still given (RFC 9112, 9.6)."""
        self._has_ended = True
        has_more = self._is_next_due or (self._data and self._drained is not None)
        if self._state == _LINGER or (self._state == _HEAD and not has_more):
            return False
        if self._state == _BODY:
            self._proceed()
        if self._exchange:
            self._exchange.half_close()
        return True

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = self._shared.loop.create_future()

    def resume_writing(self) -> None:
        drained, self._drained = self._drained, None
        if drained and not drained.done():
            drained.set_result(None)
        if self._state == _HEAD and self._data and not self._transport.is_closing():
            self._go_on()

    # Reading

    def _proceed(self) -> None:
        """Take from `_data` what can be taken now. While the client does not take its answers, no more are made."""
        try:
            if self._state == _HEAD and self._drained is None:
                self._read_head()
            if self._state == _BODY:
                (self._offer_part if self._in_parts else self._read_body)()
        except Problem as problem:
            self._fail(problem)
        except Exception:
            log.exception("a connection has failed")
            if self._exchange and self._exchange.is_answered:
                self._transport.abort()
            else:
                self._refuse(Problem("something went wrong here"))

    def _read_head(self) -> None:
        data = self._data
        if data.startswith(b"\r\n"):
            # RFC 9112, 2.2: an empty line before a request is passed over; one.
            del data[:2]
        if not data:
            if self._has_ended:
                self._transport.close()
            return
        end = data.find(b"\r\n\r\n", 0, LARGEST_HEAD + 4)
        if end < 0:
            check_partial(data)
            if self._has_ended:
                self._transport.close()
            # On a connection that was idle, from the first bytes of the request on.
            self.deadline = min(self.deadline, self._shared.loop.time() + HEAD_S)
            return
        head = parse_head(bytes(data[: end + 2]))
        del data[: end + 4]
        self._begin(head)

    def _begin(self, head: Head) -> None:
        shared = self._shared
        forwarded = head.fields.get("x-forwarded-for")
        address = self._peer if forwarded is None else shared.proxies.client(self._peer, forwarded)
        self._keep, self._is_old = head.keep, head.is_old
        request = make_request(head.method, head.target, head.fields, address, begins=True)
        exchange = self._exchange = Exchange(self, request)
        if self._has_ended:
            exchange.half_close()
        if head.length == 0:
            self._state = _ANSWER
            self.deadline = float("inf")
        else:
            self._state = _BODY
            self._framed = ChunkedBody() if head.length is None else SizedBody(head.length)
            self._expects = head.expects
            self._in_parts = shared.takes_parts(request)
            moment = shared.loop.time()
            self._body_ends_at = moment + (_UPLOAD_S if self._in_parts else _BODY_S)
            self.deadline = float("inf") if self._in_parts else moment + _PAUSE_S
            if not self._in_parts and head.length is not None and head.length > shared.most_body:
                # It is not read; what is answered to so much is known.
                self._take_body(bytes(shared.most_body + 1))
        if shared.is_full() and request.path not in OPERATORS:
            shared.note_refusal()
            self._refuse(Unavailable("too many clients are connected", code="overloaded"))
            return
        shared.handle(exchange)

    def _offer_part(self) -> None:
        """Give the reader that waits for a part of the body what has come of it."""
        ready = self._body_ready
        if ready is None or ready.done():
            return
        part = self._framed.feed(self._data)
        if self._framed.is_whole:
            self._state = _ANSWER
        if part or self._framed.is_whole:
            self.deadline = float("inf")
            ready.set_result(part)
        elif self._has_ended:
            raise cut_off()

    def _read_body(self) -> None:
        if self._body_ready and self._body_ready.done():
            return
        part = self._framed.feed(self._data)
        if part:
            self._body += part
            self.deadline = min(self._shared.loop.time() + _PAUSE_S, self._body_ends_at)
        if self._framed.is_whole:
            self._state = _ANSWER
        if self._framed.is_whole or len(self._body) > self._shared.most_body:
            self._take_body(bytes(self._body[: self._shared.most_body + 1]))
        elif self._has_ended:
            raise cut_off()

    def _take_body(self, body: bytes) -> None:
        self.deadline = float("inf")
        self._body.clear()
        if self._body_ready is None:
            self._body_ready = self._shared.loop.create_future()
        if not self._body_ready.done():
            self._body_ready.set_result(body)

    async def read_body(self) -> bytes:
        """Raises: Problem for a body that is malformed or too slow; ClientGone."""
        if self._body_ready is None:
            if self._state == _ANSWER:
                return b""
            self._require_client()
            self._body_ready = self._shared.loop.create_future()
            if self._expects and not self._body:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await asyncio.shield(self._body_ready)

    async def read_part(self) -> bytes:
        """The next part of a body that is read in parts, or b"" at its end. What the client sends until the next one is
        asked for is left to the kernel. Raises: Problem for one that is malformed or too slow; ClientGone."""
        if self._state == _ANSWER:
            return b""
        self._require_client()
        loop = self._shared.loop
        self._body_ready = loop.create_future()
        self.deadline = min(loop.time() + _PAUSE_S, self._body_ends_at)
        if self._expects:
            self._expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._proceed()
        self._read_on()
        return await asyncio.shield(self._body_ready)

    def _require_client(self) -> None:
        """Raises: ClientGone where nothing more will come of the body, so that nobody waits for it."""
        if self._state != _BODY or self._transport.is_closing():
            raise ClientGone

    def _read_on(self) -> None:
        """Take from the kernel again, once little enough of what has come is left."""
        if not self._is_reading and len(self._data) <= _AHEAD and not self._transport.is_closing():
            self._is_reading = True
            self._transport.resume_reading()

    # Answering

    def answer(self, status: int, fields: bytes, content: bytes) -> None:
        closing = _CLOSE if self._must_close() else b""
        server_lines = self._shared.server_lines(self._exchange)
        self._transport.write(b"%b%b%b%b\r\n%b" % (_STATUS_LINES[status], server_lines, fields, closing, content))
        self._end(keep=not closing)

    def begin(self, status: int, fields: bytes, *, has_length: bool) -> None:
        # RFC 9112, 6.1: HTTP/1.0 knows no chunks. There the connection's end is the answer's.
        self._is_chunked = not has_length and not self._is_old
        self._keep = not self._must_close()
        framing = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        closing = b"" if self._keep else _CLOSE
        parts = (_STATUS_LINES[status], self._shared.server_lines(self._exchange), fields, framing, closing)
        self._transport.write(b"%b%b%b%b%b\r\n" % parts)

    def part(self, data: bytes) -> None:
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def finish(self) -> None:
        if self._is_chunked:
            self._transport.write(b"0\r\n\r\n")
        self._end(keep=not self._must_close())

    def _must_close(self) -> bool:
        """Whether the present answer is the connection's last: its client or the server wants that, or what follows
        would be the rest of a body."""
        if self._has_ended and not self._data:
            return True
        return not self._keep or self._shared.is_closing or self._state != _ANSWER

    async def drain(self) -> None:
        """Return once what has been written is no longer too much to hold. Others have their turn meanwhile, a
        connection's loss among them."""
        if self._drained:
            await asyncio.shield(self._drained)
        else:
            await asyncio.sleep(0)

    def _end(self, *, keep: bool) -> None:
        """The present request is answered."""
        self._exchange = None
        self._reset_body()
        if not keep:
            self._linger()
            return
        self._state = _HEAD
        wait_s = self._shared.keep_alive_s if self._drained is None else SEND_S
        self.deadline = self._shared.loop.time() + wait_s
        if self._data:
            self._go_on()
        elif not self._is_reading:
            self._read_on()

    def _go_on(self) -> None:
        """Read the next request of those that have come already, once others have had their turn."""
        if not self._is_next_due:
            self._is_next_due = True
            self._shared.loop.call_soon(self._next)

    def _next(self) -> None:
        self._is_next_due = False
        if not self._transport.is_closing():
            self._proceed()
            self._read_on()

    def _linger(self) -> None:
        """Close, after the client has had the time to read the answer: a connection that is closed while the other side
        still sends is reset, and what was not read yet is lost with it."""
        self._state = _LINGER
        self._data.clear()
        wait_s = SEND_S if self._transport.get_write_buffer_size() else _LINGER_S
        self.deadline = self._shared.loop.time() + wait_s
        self._read_on()
        if self._has_ended or not self._transport.can_write_eof():
            self._transport.close()
        else:
            self._transport.write_eof()

    def _fail(self, problem: Problem) -> None:
        """Whatever the present request was, it cannot be read: refuse it, and close."""
        if self._body_ready:
            # The reader of the body is told, and answers; what is wrong with the rest of it changes nothing.
            if not self._body_ready.done():
                self._body_ready.set_exception(problem)
            return
        if self._exchange and self._exchange.is_answered:
            self._keep = False
            self._data.clear()
            return
        self._refuse(problem)

    def _refuse(self, problem: Problem) -> None:
        """Answer for whoever serves the present request, who has nothing more to do, and close."""
        exchange, self._keep = self._exchange, False
        if exchange:
            exchange.is_answered = True
            exchange.leave()
        if self._body_ready and not self._body_ready.done():
            self._body_ready.set_exception(ClientGone())
        request = exchange.request if exchange else None
        request_id = request.id if request else new_request_id()
        reply = problem_reply(problem, request, request_id)
        content = b"" if request and request.method == "HEAD" else reply.body or b""
        self.answer(reply.status, b"%bx-request-id: %b\r\n" % (field_lines(reply), request_id.encode()), content)

    # Time

    def time_out(self) -> None:
        """What was waited for has not come in time."""
        self.deadline = float("inf")
        if self._state == _BODY:
            self._fail(RequestTimeout("the body did not arrive in time"))
        elif self._state == _HEAD and self._data and self._drained is None:
            self._refuse(RequestTimeout("the head of the request did not arrive in time"))
        elif self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def close_if_idle(self) -> None:
        if self._state == _HEAD and not self._data:
            self._transport.close()

    def abort(self) -> None:
        self._transport.abort()
