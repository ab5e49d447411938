"""Reads through the cache on a thread: takes the steps of read_protocol.py, blocking in each."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg2

from dues.observability.metrics import CACHE_READS
from dues.observability.outage import Outage
from dues.reads.freshness.journal import Follower
from dues.reads.freshness.read_protocol import (
    Ask,
    Compute,
    Computed,
    Look,
    Lookup,
    NewTransactionId,
    Pause,
    ReadProtocol,
    Result,
    Round,
    Step,
    Tell,
    WaitFor,
)
from dues.reads.freshness.store import Store
from dues.redis.wire import CacheAway, Command, Reply

# How long a Redis that did not answer a reader is not asked again.
_REST_S = 0.5

_READS = {result: CACHE_READS.labels(result) for result in ("hit", "kept", "passed")}

log = logging.getLogger(__name__)


class ThreadRound:
    """A round that threads wait for."""

    __slots__ = ("_gate", "error", "result")

    def __init__(self) -> None:
        # A lock that is held until the end: an Event, made for each read, costs ten times as much.
        self._gate = threading.Lock()
        self._gate.acquire()
        self.result: Result | None = None
        self.error: Exception | None = None

    def end(self) -> None:
        self._gate.release()

    def wait(self) -> None:
        with self._gate:
            pass


class Reader:
    """Reads through the cache for one process; from any number of threads.

    `generation()` tells under which generation's names the cache may be used now; `new_xid()` has PostgreSQL give
    out a transaction id.
    """

    def __init__(
        self,
        store: Store,
        generation: Callable[[], int | None],
        new_xid: Callable[[], str],
        life_s: float,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        new_round: Callable[[], Round] = ThreadRound,
    ) -> None:
        self._store, self._generation, self._new_xid = store, generation, new_xid
        self._sleep, self._clock = sleep, clock
        self._follower = Follower()
        self._protocol = ReadProtocol(store, life_s, new_round, lambda result: _READS[result].inc(), clock)
        self._rest_until = float("-inf")
        self._outage = Outage(clock)

    def read(self, key: str, tags: Sequence[str], compute: Callable[[], Computed], *, follows: bool = False) -> Result:
        """The answer that `key` names and `compute()` makes: see `ReadProtocol.read`. Raises: what `compute` raises."""
        steps = self._protocol.read(key, tags, follows=follows)
        follower = self._follower if follows else None
        try:
            step = next(steps)
            while True:
                try:
                    outcome = self._take(step, key, tags, compute, follower)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            result: Result = end.value
            return result

    def _take(
        self,
        step: Step,
        key: str,
        tags: Sequence[str],
        compute: Callable[[], Computed],
        follower: Follower | None,
    ) -> Any:
        match step:
            case Look():
                return self._look(key, tags, follower)
            case Compute():
                return compute()
            case Tell(commands):
                self._tell(commands)
            case WaitFor(ahead):
                ahead.wait()
            case Pause(seconds):
                self._sleep(seconds)
            case Ask(commands):
                return self._ask(commands)
            case NewTransactionId():
                return self._transaction_id()
        return None

    def _look(self, key: str, tags: Sequence[str], follower: Follower | None) -> Lookup:
        generation = self._generation()
        if generation is None or self._clock() < self._rest_until:
            return None
        try:
            found = self._store.look(generation, key, tags, follower)
        except CacheAway as error:
            self._rest(error)
            return None
        if self._outage.worked():
            log.warning("reading through the cache again")
        return found

    def _ask(self, commands: Sequence[Command]) -> list[Reply]:
        try:
            return self._store.ask(commands)
        except CacheAway as error:
            self._rest(error)
            raise

    def _tell(self, commands: Sequence[Command]) -> None:
        try:
            self._store.tell(commands)
        except CacheAway as error:
            self._rest(error)

    def _transaction_id(self) -> str:
        try:
            return self._new_xid()
        except psycopg2.Error as error:
            raise CacheAway(f"no transaction id: {error}") from error

    def _rest(self, error: Exception) -> None:
        if self._outage.failed():
            log.warning("reading past the cache: %s", error)
        self._rest_until = self._clock() + _REST_S
