"""The read side: an answer from Redis if it is fresh, else computed once for all who ask for it at the same time."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import psycopg2

from dues.observability.metrics import CACHE_READS
from dues.reads.freshness.snapshot import covers
from dues.reads.freshness.store import Hit, Miss, Proof, Store, Unfounded
from dues.redis.wire import CacheAway

# The longest that somebody else's computing is waited for.
_WAIT_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.001, 0.02
# For so long a Redis that did not answer a reader is left alone.
_REST_S = 0.5

_HIT, _KEPT, _PASSED = (CACHE_READS.labels(result) for result in ("hit", "kept", "passed"))

log = logging.getLogger(__name__)


class Computed(NamedTuple):
    """An answer from PostgreSQL: what to keep, the `pg_current_snapshot()::text` of the one statement that it is
    made from, and for how many seconds it may be kept (0: not at all; None: the default)."""

    payload: bytes
    snapshot: str
    life_s: float | None = None


class Result(NamedTuple):
    """`proof` is how to find out later whether `payload` is still fresh; None: it may not be kept. It may be kept
    until `expires_at`, a time of the clock on the wall (`time.time()`), and no longer."""

    payload: bytes
    hit: bool
    proof: Proof | None
    expires_at: float = 0.0


class _Flight:
    """One reading on behalf of all who asked before it began."""

    __slots__ = ("_gate", "result")

    def __init__(self) -> None:
        # A lock that is held until it lands: an Event, made for each reading, costs ten times as much.
        self._gate = threading.Lock()
        self._gate.acquire()
        self.result: Result | None = None

    def land(self) -> None:
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
    ) -> None:
        self._store, self._generation, self._new_xid, self._life_s = store, generation, new_xid, life_s
        self._sleep, self._clock = sleep, clock
        self._rest_until = float("-inf")
        self._is_away = False
        self._lock = threading.Lock()
        self._boarding: dict[str, _Flight] = {}
        self._flying: dict[str, _Flight] = {}

    def read(self, key: str, tags: Sequence[str], compute: Callable[[], Computed]) -> Result:
        """The answer that `key` names and `compute()` makes, which depends on nothing but rows under `tags`.

        Who asks while another thread reads the same key waits for the reading after that one, and shares it with all
        who came meanwhile: nobody is given an answer whose reading began before he asked. What `compute` raises is
        raised, and not kept.
        """
        with self._lock:
            flight = self._boarding.get(key)
            mine = flight is None
            if flight is None:
                flight = self._boarding[key] = _Flight()
                ahead = self._flying.get(key)
        if not mine:
            flight.wait()
            return flight.result or self.read_alone(key, tags, compute)
        if ahead:
            ahead.wait()
        with self._lock:
            del self._boarding[key]
            self._flying[key] = flight
        try:
            flight.result = self.read_alone(key, tags, compute)
            return flight.result
        finally:
            with self._lock:
                if self._flying.get(key) is flight:
                    del self._flying[key]
            flight.land()

    def read_alone(self, key: str, tags: Sequence[str], compute: Callable[[], Computed]) -> Result:
        """As `read()`, sharing with nobody but through Redis."""
        seen = self._look(key, tags)
        if isinstance(seen, Hit):
            _HIT.inc()
            return unpack(seen)
        try:
            answer = compute()
        except BaseException:
            self._keep(seen, key, None)
            raise
        result, entry = judge(seen, answer, self._life_s)
        self._keep(seen, key, entry)
        (_KEPT if entry else _PASSED).inc()
        return result

    def _look(self, key: str, tags: Sequence[str]) -> Hit | Miss | None:
        """The entry, or on a miss what a new one must cover; None when it cannot be kept."""
        generation = self._generation()
        if generation is None or self._clock() < self._rest_until:
            return None
        deadline, pause = self._clock() + _WAIT_S, _FIRST_PAUSE_S
        try:
            while True:
                seen = self._store.look(generation, key, tags)
                self._is_back()
                late = self._clock() >= deadline
                if isinstance(seen, Hit) or (isinstance(seen, Miss) and (late or not seen.waits)):
                    return seen
                if late:
                    return None
                if seen == Unfounded(claimed=False):
                    self._store.found_base(generation, self._new_xid)
                    continue
                self._sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE_S)
        except (CacheAway, psycopg2.Error) as error:
            self._rest(error)
            return None

    def _keep(self, seen: Miss | None, key: str, entry: "Entry | None") -> None:
        try:
            if seen and entry:
                self._store.fill(seen.proof, key, *entry)
            elif seen and seen.leads:
                self._store.release(seen.proof, key)
        except CacheAway as error:
            self._rest(error)

    def _rest(self, error: Exception) -> None:
        if not self._is_away:
            log.warning("reading past the cache: %s", error)
        self._is_away = True
        self._rest_until = self._clock() + _REST_S

    def _is_back(self) -> None:
        if self._is_away:
            log.warning("reading through the cache again")
        self._is_away = False


class Entry(NamedTuple):
    """What is kept of an answer, and for how many seconds."""

    payload: bytes
    life_s: float


def judge(seen: Miss | None, answer: Computed, life_s: float) -> tuple[Result, Entry | None]:
    """An answer that was computed after a look found what it found, and what may be kept of it, for `life_s` at most:
    None where its snapshot does not cover all that has touched its tags."""
    if answer.life_s is not None:
        life_s = min(answer.life_s, life_s)
    if seen is None or life_s <= 0 or not covers(seen.proof.version, answer.snapshot):
        return Result(answer.payload, False, None), None
    expires_at = time.time() + life_s
    entry = Entry(b"%.3f\n%b" % (expires_at, answer.payload), life_s)
    return Result(answer.payload, False, seen.proof, expires_at), entry


def unpack(hit: Hit) -> Result:
    expires_at, _, payload = hit.payload.partition(b"\n")
    return Result(payload, True, hit.proof, float(expires_at))
