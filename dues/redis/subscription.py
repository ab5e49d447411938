"""One subscription of a process to a channel of Redis, on its event loop.

A message may be lost, with Redis or on the way, so a listener also asks for what they tell by other means now
and then: soon after every gap, and more often while there is no subscription.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from dues.redis.wire import Address, CacheAway, Replies, Reply, encode, run_id_of

_CONNECT_S = 2.0
# A connection that is silent for so long is asked whether it is still there, and has as long to answer.
_SILENT_S = 1.0
_REST_S = 0.5
_BYTES = 65536


class Subscription:
    """Calls `heard(message)` for each message, and `missed()` when some may have been lost.

    `is_on`: messages arrive now.
    """

    def __init__(
        self, redis_url: str, channel: str, heard: Callable[[bytes], None], missed: Callable[[], None]
    ) -> None:
        self._address, self._channel = Address.parse(redis_url), channel
        self._heard, self._missed = heard, missed
        self.is_on = False

    async def listen(self) -> None:
        """Subscribe, again and again; never returns."""
        while True:
            with contextlib.suppress(OSError, CacheAway, EOFError):
                await self._listen_once()
            if self.is_on:
                self.is_on = False
                self._missed()
            await asyncio.sleep(_REST_S)

    async def _listen_once(self) -> None:
        async with asyncio.timeout(_CONNECT_S):
            reader, writer = await self._connect()
        try:
            replies = Replies()
            async with asyncio.timeout(_CONNECT_S):
                await self._subscribe(reader, writer, replies)
            self.is_on = True
            self._missed()
            await self._follow(reader, writer, replies)
        finally:
            writer.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = self._address
        if address.path:
            return await asyncio.open_unix_connection(address.path)
        tls = ssl.create_default_context() if address.tls else None
        return await asyncio.open_connection(address.host, address.port, ssl=tls)

    async def _subscribe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: Replies) -> None:
        greeting = self._address.greeting(())
        writer.write(encode([*greeting, ("SUBSCRIBE", self._channel)]))
        while (greeted := replies.take(len(greeting) + 1)) is None:
            replies.feed(await _read(reader))
        run_id_of(greeted[:-1])
        if not isinstance(greeted[-1], list):
            raise CacheAway("Redis refused the subscription")

    async def _follow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, replies: Replies) -> None:
        is_asked = False
        while True:
            try:
                async with asyncio.timeout(_SILENT_S):
                    data = await _read(reader)
            except TimeoutError:
                if is_asked:
                    raise
                is_asked = True
                writer.write(encode([("PING",)]))
                continue
            is_asked = False
            replies.feed(data)
            while taken := replies.take(1):
                self._take(taken[0])

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, list) and len(reply) == 3 and reply[0] == b"message" and isinstance(reply[2], bytes):
            self._heard(reply[2])


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(_BYTES)
    if not data:
        raise EOFError("Redis closed the connection")
    return data
