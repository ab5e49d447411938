"""A connection to Redis on the event loop."""

import asyncio
from collections.abc import Sequence

from dues.redis.wire import Address, CacheAway, Command, Replies, Reply, encode, run_id_of


class LoopConnection(asyncio.Protocol):
    """A connection to Redis on the event loop. When it is lost, so are the calls on it."""

    def __init__(self) -> None:
        self.run_id = ""
        # Kept, since asyncio makes a system call each time it is asked for it.
        self.loop = asyncio.get_running_loop()
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
            try:
                replies = self._replies.take(count)
            except CacheAway:
                self.close()
                return
            if replies is None:
                return
            del self._calls[0]
            if not answer.done():
                answer.set_result(replies)
        if self._replies.has_more:
            # More than was asked for, which the next call would take for its reply.
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.close()

    def call(self, commands: Sequence[Command], timeout_s: float) -> "asyncio.Future[list[Reply]]":
        """All the answers, or CacheAway within `timeout_s`."""
        return self.send(encode(commands), len(commands), timeout_s)

    def send(self, data: bytes, count: int, timeout_s: float) -> "asyncio.Future[list[Reply]]":
        """The same for `count` commands that are encoded already."""
        answer: asyncio.Future[list[Reply]] = self.loop.create_future()
        if self._transport is None:
            answer.set_exception(CacheAway("the connection is closed"))
            return answer
        self._calls.append((count, answer))
        self._transport.write(data)
        timer = self.loop.call_later(timeout_s, self.close)
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


async def connect(address: Address, scripts: Sequence[bytes], timeout_s: float) -> LoopConnection:
    """`scripts` are made known to the server. Raises: CacheAway."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_s):
            if address.path:
                _, connection = await loop.create_unix_connection(LoopConnection, address.path)
            else:
                _, connection = await loop.create_connection(
                    LoopConnection, address.host, address.port, ssl=address.tls or None
                )
            try:
                connection.run_id = run_id_of(await connection.call(address.greeting(scripts), timeout_s))
            except BaseException:
                connection.close()
                raise
            return connection
    except (OSError, TimeoutError) as error:
        raise CacheAway(f"no connection: {error}") from error
