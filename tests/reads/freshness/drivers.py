"""The reads of both servers, behind one signature: on a thread, and on an event loop that runs in a thread."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from contextvars import copy_context
from typing import Any

import psycopg2

from api.routing import Priority
from api.server.loop_reader import LoopReader, Wanted
from api.server.metrics_buffer import Tally
from api.server.redis_batch import Checks
from dues.postgres.aio import Lost
from dues.reads.freshness import Computed, Result
from dues.reads.freshness.backend import FreshCache
from dues.reads.freshness.read_protocol import ReadProtocol
from dues.reads.freshness.reader import Reader
from dues.redis.wire import Address

Compute = Callable[[], Computed]
_MOST_AT_ONCE = 250


class ThreadDriver:
    """As threads of Flask read."""

    def __init__(self, cache: FreshCache, redis_url: str, generation: Callable[[], int | None]) -> None:
        self._reader = Reader(cache.store, generation, cache.switch.new_xid, float(cache.default_timeout))
        self.protocol: ReadProtocol = self._reader._protocol

    def read(self, key: str, tags: Sequence[str], compute: Compute) -> Result:
        return self._reader.read(key, tags, compute)

    def close(self) -> None:
        pass


class _Plan:
    def __init__(self, key: str, tags: Sequence[str], compute: Compute) -> None:
        self.key, self.tags, self._compute = key, tuple(tags), compute
        self.follows = False

    def statement(self) -> tuple[str, Mapping[str, object]]:
        return "", {"compute": self._compute}

    def computed(self, row: Any) -> Computed:
        answer: Computed = row
        return answer


class _Turns:
    def turn(self, priority: Priority) -> nullcontext[None]:
        return nullcontext()


class LoopDriver:
    """As the ASGI server reads. What a test computes by may block, so it runs on threads."""

    def __init__(self, cache: FreshCache, redis_url: str, generation: Callable[[], int | None]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._threads = ThreadPoolExecutor(_MOST_AT_ONCE)
        self._new_xid = cache.switch.new_xid
        self._checks = Checks(Address.parse(redis_url), cache.store, generation)
        context, life_s = copy_context(), float(cache.default_timeout)
        self._reader = LoopReader(self._checks, cache.store, self._fetch_row, _Turns(), Tally(), life_s, context)
        self.protocol: ReadProtocol = self._reader._protocol

    def read(self, key: str, tags: Sequence[str], compute: Compute) -> Result:
        return self.start(key, tags, compute).result(30)

    def start(self, key: str, tags: Sequence[str], compute: Compute) -> "Future[Result]":
        """Begin to read; the caller may cancel it."""
        return asyncio.run_coroutine_threadsafe(self._read(_Plan(key, tags, compute)), self._loop)

    async def _read(self, plan: _Plan) -> Result:
        found = (await self._checks.ask(None, None, plan)).found
        wanted = Wanted(None, None, plan, Priority.READ)  # type: ignore[arg-type]
        return await self._reader.read(wanted, found)

    async def _fetch_row(self, sql: str, values: Mapping[str, Any]) -> Any:
        compute = values.get("compute") or (lambda: (self._new_xid(),))
        try:
            return await self._loop.run_in_executor(self._threads, compute)
        except psycopg2.OperationalError as error:
            raise Lost from error

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._threads.shutdown()
        self._loop.close()

    async def _end(self) -> None:
        self._checks.close()
        # The transport closes its socket in the next turn.
        await asyncio.sleep(0)


Driver = ThreadDriver | LoopDriver
DRIVERS: dict[str, type[ThreadDriver] | type[LoopDriver]] = {"threads": ThreadDriver, "event loop": LoopDriver}
