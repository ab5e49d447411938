"""An event loop that is one actor of the scheduler, and its connections to Redis: LoopConnection itself, on a transport
that delays, loses and delivers late what is written to it."""

import asyncio
import random
import selectors
from collections.abc import Coroutine, Sequence
from typing import Any

from dues.redis.aio import LoopConnection
from dues.redis.wire import Address, CacheAway, Command, Replies, Reply, ReplyError
from tests.reads.freshness.redis import Faults, Redis
from tests.reads.freshness.scheduler import Scheduler

# How long a message may be under way; the longest is longer than a call may take.
_USUAL_S, _SLOW_S = (0.0, 0.0, 0.0, 0.03), (0.1, 0.4)


class _Selector(selectors.SelectSelector):
    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self._scheduler = scheduler
        self.is_over = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if not self.is_over:
            self._scheduler.step()
        return []


class SteppedLoop(asyncio.SelectorEventLoop):
    """Each turn is a step of the scheduler, whose clock it goes by."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler, self._steps = scheduler, _Selector(scheduler)
        super().__init__(self._steps)

    def time(self) -> float:
        return self._scheduler.now

    def run(self, *actors: Coroutine[Any, Any, None]) -> None:
        """Run all of them until one fails, or the run is over."""
        try:
            self.run_until_complete(_together(actors))
        finally:
            self._steps.is_over = True
            left = asyncio.all_tasks(self)
            for task in left:
                task.cancel()
            self.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self.close()


async def _together(actors: Sequence[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*actors)


class Transport:
    """What a process has written on one connection, in order. A connection on which something was lost loses all that
    follows, until it is closed."""

    def __init__(self, redis: Redis, choose: random.Random, faults: Faults, protocol: LoopConnection) -> None:
        self._redis, self._random, self._faults, self._protocol = redis, choose, faults, protocol
        self._life = redis.life
        self._requests = Replies()
        self._is_hung = self._is_closed = False
        self._carried_out_at = self._answered_at = 0.0

    def write(self, data: bytes) -> None:
        self._requests.feed(data)
        commands: list[Command] = []
        while taken := self._requests.take(1):
            commands += taken  # type: ignore[arg-type]
        self._is_hung = self._is_hung or self._faults.cut or self._random.random() < self._faults.lost
        if self._is_hung:
            self._redis.lose(commands, self._random)
            return
        self._carried_out_at = self._later_than(self._carried_out_at)
        self._protocol.loop.call_at(self._carried_out_at, self._carry_out, commands)

    def _later_than(self, last: float) -> float:
        is_slow = self._random.random() < self._faults.slow
        delay_s = self._random.choice(_SLOW_S if is_slow else _USUAL_S)
        return max(self._protocol.loop.time() + delay_s, last + 1e-6)

    def _carry_out(self, commands: list[Command]) -> None:
        if self._is_closed:
            self._redis.lose(commands, self._random)
        elif self._life != self._redis.life:
            self._protocol.connection_lost(None)
        else:
            answer = b"".join(map(_encode, self._redis.call(*commands)))
            self._answered_at = self._later_than(self._answered_at)
            self._protocol.loop.call_at(self._answered_at, self._answer, answer)

    def _answer(self, answer: bytes) -> None:
        if not self._is_closed:
            self._protocol.data_received(answer)

    def abort(self) -> None:
        self._is_closed = True


class Connector:
    """How a process opens a connection of its event loop to Redis."""

    def __init__(self, redis: Redis, choose: random.Random, faults: Faults) -> None:
        self._redis, self._random, self._faults = redis, choose, faults

    async def __call__(self, address: Address, scripts: Sequence[bytes], timeout_s: float) -> LoopConnection:
        await asyncio.sleep(0)
        if self._faults.cut:
            raise CacheAway("no connection")
        connection = LoopConnection()
        connection.run_id = self._redis.run_id
        connection.connection_made(Transport(self._redis, self._random, self._faults, connection))  # type: ignore[arg-type]
        return connection


def _encode(reply: Reply) -> bytes:
    match reply:
        case None:
            return b"$-1\r\n"
        case int():
            return b":%d\r\n" % reply
        case bytes():
            return b"$%d\r\n%b\r\n" % (len(reply), reply)
        case list():
            return b"*%d\r\n%b" % (len(reply), b"".join(map(_encode, reply)))
        case ReplyError():
            raise AssertionError(reply)
