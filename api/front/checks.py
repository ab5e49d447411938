"""One question to Redis for all requests that arrive in one turn of the event loop: are the answers we have still
fresh, and how much of their quota have the callers used?

A request joins only a batch that has not been sent, so the answer is from after its arrival. A connection whose call
ran out of time is closed and never read again. What Redis does not say is unknown: the request goes to Flask.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from api.limits import Limit
from dues.reads.freshness import Proof
from dues.reads.freshness.store import LOOK_TIMEOUT_S
from dues.reads.freshness.wire import Address, CacheAway, Command, Replies, Reply, encode, run_id_of

# How long after a failure no connection is tried.
_REST_S = 0.5


class Verdict(NamedTuple):
    """`fresh`: every proof holds. `used`: of the limit, this request included; None where Redis did not say."""

    fresh: bool
    used: int | None


_UNKNOWN = Verdict(False, None)


class Watch(NamedTuple):
    """All the proofs of an answer as one: the names to ask for (as they go over the wire), and what each must read."""

    prefix: str
    names: tuple[bytes, ...]
    values: tuple[bytes, ...]

    @classmethod
    def over(cls, proofs: Sequence[Proof]) -> "Watch | None":
        """None where there are none, or where they are from different times and cannot all hold."""
        expected: dict[bytes, bytes] = {}
        for proof in proofs:
            values = proof.version.encode().split(b" ")
            for name, value in zip(map(str.encode, proof.names()), values, strict=True):
                word = b"$%d\r\n%b\r\n" % (len(name), name)
                if expected.setdefault(word, value) != value:
                    return None
        if len({proof.prefix for proof in proofs}) != 1:
            return None
        return cls(proofs[0].prefix, tuple(expected), tuple(expected.values()))


class LoopConnection(asyncio.Protocol):
    """A connection to Redis on the event loop. When it is lost, so are the calls on it."""

    def __init__(self) -> None:
        self.run_id = ""
        self._replies = Replies()
        self._calls: list[tuple[int, asyncio.Future[list[Reply]]]] = []
        self._transport: asyncio.Transport | None = None

    @property
    def is_open(self) -> bool:
        return self._transport is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._replies.feed(data)
        while self._calls:
            count, answer = self._calls[0]
            replies = self._replies.take(count)
            if replies is None:
                return
            del self._calls[0]
            if not answer.done():
                answer.set_result(replies)

    def connection_lost(self, error: Exception | None) -> None:
        self.close()

    def call(self, commands: Sequence[Command], timeout_s: float) -> "asyncio.Future[list[Reply]]":
        """All the answers, or CacheAway within `timeout_s`."""
        return self.send(encode(commands), len(commands), timeout_s)

    def send(self, data: bytes, count: int, timeout_s: float) -> "asyncio.Future[list[Reply]]":
        """The same for `count` commands that are encoded already."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Reply]] = loop.create_future()
        if self._transport is None:
            answer.set_exception(CacheAway("the connection is closed"))
            return answer
        self._calls.append((count, answer))
        self._transport.write(data)
        timer = loop.call_later(timeout_s, self.close)
        answer.add_done_callback(lambda _: timer.cancel())
        return answer

    def close(self) -> None:
        transport, self._transport = self._transport, None
        if transport:
            transport.abort()
        calls, self._calls = self._calls, []
        for _, answer in calls:
            if not answer.done():
                answer.set_exception(CacheAway("Redis did not answer in time, or is gone"))


async def connect(address: Address, timeout_s: float) -> LoopConnection:
    """Raises: CacheAway."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            if address.path:
                _, connection = await loop.create_unix_connection(LoopConnection, address.path)
            else:
                _, connection = await loop.create_connection(
                    LoopConnection, address.host, address.port, ssl=address.tls or None
                )
            connection.run_id = run_id_of(await connection.call(address.greeting([]), timeout_s))
            return connection
    except (OSError, TimeoutError) as error:
        raise CacheAway(f"no connection: {error}") from error


@dataclass
class _Batch:
    """What will be asked together, each name once."""

    names: dict[bytes, int] = field(default_factory=dict)
    counts: dict[str, tuple[Limit, int]] = field(default_factory=dict)
    askers: list[tuple[Watch | None, Limit | None, int, asyncio.Future[Verdict]]] = field(default_factory=list)


class Checks:
    """The checks of one event loop.

    `prefix(run_id)` is what the names of fresh answers begin with now, or None while the cache may not be used.
    """

    def __init__(self, address: Address, prefix: Callable[[str], str | None], name_of: Callable[[str], str]) -> None:
        self._address, self._prefix, self._name_of = address, prefix, name_of
        self._connection: LoopConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._rest_until = 0.0
        self._is_away = False
        self._batch: _Batch | None = None

    def ask(self, watch: Watch | None, limit: Limit | None) -> "asyncio.Future[Verdict]":
        """Whether what `watch` expects is so, and one request more on `limit`. Never raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Verdict] = loop.create_future()
        is_open = self._connection is not None and self._connection.is_open
        if not is_open and not self._is_worth_waiting_for(loop):
            answer.set_result(_UNKNOWN)
            return answer
        batch = self._batch
        if batch is None:
            batch = self._batch = _Batch()
            if is_open:
                loop.call_soon(self._send)
        names = batch.names
        if watch:
            for name in watch.names:
                if name not in names:
                    names[name] = len(names)
        rank = 0
        if limit:
            key = limit.key
            rank = batch.counts[key][1] + 1 if key in batch.counts else 1
            batch.counts[key] = (limit, rank)
        batch.askers.append((watch, limit, rank, answer))
        return answer

    def close(self) -> None:
        if self._connection:
            self._connection.close()

    def _is_worth_waiting_for(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Try to connect; who asks meanwhile is asked for then, unless it has failed before."""
        if self._connecting is None and loop.time() >= self._rest_until:
            self._connecting = loop.create_task(self._connect(loop))
        return self._connecting is not None and not self._is_away

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._connection = await connect(self._address, LOOK_TIMEOUT_S)
            self._is_away = False
        except CacheAway:
            self._rest_until = loop.time() + _REST_S
            self._is_away = True
        finally:
            self._connecting = None
            if self._batch and self._connection and self._connection.is_open:
                self._send()
            elif self._batch:
                batch, self._batch = self._batch, None
                _settle(batch, [_UNKNOWN] * len(batch.askers))

    def _send(self) -> None:
        batch, self._batch = self._batch, None
        connection = self._connection
        assert batch
        assert connection
        data, replies = b"", 2 * len(batch.counts)
        for limit, count in batch.counts.values():
            data += b"%b$%d\r\n%d\r\n" % (
                _counting(self._name_of(limit.key), limit.policy.window_s),
                len(str(count)),
                count,
            )
        if batch.names:
            data = b"*%d\r\n$4\r\nMGET\r\n%b%b" % (len(batch.names) + 1, b"".join(batch.names), data)
            replies += 1
        if not replies:
            _settle(batch, [_UNKNOWN] * len(batch.askers))
            return
        # Before the question is sent: a generation believed now was on when each of these requests had arrived.
        prefix = self._prefix(connection.run_id)
        answer = connection.send(data, replies, LOOK_TIMEOUT_S)
        answer.add_done_callback(lambda done: self._receive(batch, prefix, done))

    def _receive(self, batch: _Batch, prefix: str | None, answer: "asyncio.Future[list[Reply]]") -> None:
        if answer.cancelled() or answer.exception():
            _settle(batch, [_UNKNOWN] * len(batch.askers))
            return
        replies = answer.result()
        values: list[Reply] = []
        if batch.names:
            found = replies.pop(0)
            values = found if isinstance(found, list) else [None] * len(batch.names)
        used = dict(zip(batch.counts, replies[1::2], strict=True))
        verdicts = []
        for watch, limit, rank, _ in batch.askers:
            count = used[limit.key] if limit else None
            mine = count - batch.counts[limit.key][1] + rank if limit and isinstance(count, int) else None
            verdicts.append(Verdict(_holds(watch, prefix, batch.names, values), mine))
        _settle(batch, verdicts)


@lru_cache(maxsize=4096)
def _counting(name: str, window_s: int) -> bytes:
    """The commands that add to a limit's counter, but for how much."""
    return encode([("SET", name, 0, "NX", "EX", window_s + 1), ("INCRBY", name, "")]).removesuffix(b"$0\r\n\r\n")


def _holds(watch: Watch | None, prefix: str | None, names: dict[bytes, int], values: list[Reply]) -> bool:
    if watch is None or watch.prefix != prefix:
        return False
    return tuple(map(values.__getitem__, map(names.__getitem__, watch.names))) == watch.values


def _settle(batch: _Batch, verdicts: list[Verdict]) -> None:
    for (*_, answer), verdict in zip(batch.askers, verdicts, strict=True):
        if not answer.done():
            answer.set_result(verdict)
