"""One question to Redis for all requests that arrive in one turn of the event loop: are the answers we have still
fresh, how much of their quota have the callers used, are there answers that we have not, and what is new in the
journal?

A request joins only a batch that has not been sent, so the answer is from after its arrival. A connection whose call
ran out of time is closed and never read again. What Redis does not say is unknown: the answer is then made on a thread.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import NamedTuple

from api.limits import Limit, Used
from dues.reads import ReadPlan
from dues.reads.freshness.journal import Follower, Position, Unjoined
from dues.reads.freshness.lua import SCRIPTS
from dues.reads.freshness.read_protocol import Lookup
from dues.reads.freshness.store import LOOK_TIMEOUT_S, Store, counted_by, found_by, with_news
from dues.reads.freshness.validator import ValidatorSet
from dues.redis.aio import LoopConnection, connect
from dues.redis.wire import Address, CacheAway, Command, Reply, ReplyError, encode

log = logging.getLogger("dues.cache")

# How long after a failure no connection is tried.
_REST_S = 0.5


class CheckResult(NamedTuple):
    """`fresh`: every validator holds. `used`: of the limit, this request included; None where Redis did not say.
    `found`: what looking up a plan's answer has found."""

    fresh: bool
    used: Used | None
    found: Lookup = None


UNKNOWN = CheckResult(False, None)

Then = Callable[[CheckResult], None]
Connect = Callable[[Address, Sequence[bytes], float], Awaitable[LoopConnection]]


class _Asker(NamedTuple):
    """`rank`: its place among the requests of its batch that count on the same limit."""

    validators: ValidatorSet | None
    limit: Limit | None
    rank: int
    plan: ReadPlan | None
    then: Then


@dataclass
class _Batch:
    """What will be asked together, each name once."""

    names: dict[bytes, None] = field(default_factory=dict)
    counts: dict[str, tuple[Limit, int]] = field(default_factory=dict)
    askers: list[_Asker] = field(default_factory=list)
    looks: list[ReadPlan] = field(default_factory=list)
    told: list[Command] = field(default_factory=list)
    follows: bool = False
    # From which record on the journal's news are asked for; None: it is joined.
    asked_from: int | None = None
    # When it is sent, a time of `time.monotonic()`.
    asked_at: float = 0.0


class Checks:
    """The checks of one event loop. `generation()` tells under which generation's names the cache may be used now."""

    def __init__(
        self, address: Address, store: Store, generation: Callable[[], int | None], connect: Connect = connect
    ) -> None:
        self._address, self._store, self._generation, self._connect_to = address, store, generation, connect
        self._connection: LoopConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._rest_until = 0.0
        self._is_away = False
        self._batch: _Batch | None = None
        self._follower = Follower()

    def ask(
        self, validators: ValidatorSet | None, limit: Limit | None, plan: ReadPlan | None = None
    ) -> "asyncio.Future[CheckResult]":
        """Whether `validators` hold, one request more on `limit`, and what is kept of `plan`, which may then be the
        asker's to make. Never raises."""
        answer: asyncio.Future[CheckResult] = asyncio.get_running_loop().create_future()
        self.ask_then(validators, limit, plan, partial(_settle, answer))
        return answer

    def ask_then(self, validators: ValidatorSet | None, limit: Limit | None, plan: ReadPlan | None, then: Then) -> None:
        """The same, for a function that is called with the answer and must not raise."""
        connection = self._connection
        is_open = connection is not None and connection.is_open
        if not is_open and not self._is_worth_waiting_for(asyncio.get_running_loop()):
            then(UNKNOWN)
            return
        batch = self._open_batch()
        if validators:
            batch.names.update(dict.fromkeys(validators.names))
            batch.follows = batch.follows or bool(validators.concerns)
        rank = 0
        if limit:
            key = limit.key
            rank = batch.counts[key][1] + 1 if key in batch.counts else 1
            batch.counts[key] = (limit, rank)
        if plan:
            batch.looks.append(plan)
            batch.follows = batch.follows or plan.follows
        batch.askers.append(_Asker(validators, limit, rank, plan, then))

    def tell(self, commands: Sequence[Command]) -> None:
        """Send commands whose replies are not needed. Redis carries them out before what is asked with `ask()` from now
        on. `call()` sends at once, and may be ahead of what was told in the same turn of the loop."""
        if self._connection is not None and self._connection.is_open:
            self._open_batch().told += commands

    async def call(self, commands: Sequence[Command]) -> list[Reply]:
        """Have Redis carry out commands that belong to no request. Raises: CacheAway."""
        if self._connection is None or not self._connection.is_open:
            raise CacheAway("there is no connection")
        replies = await self._connection.call(commands, LOOK_TIMEOUT_S)
        for reply in replies:
            if isinstance(reply, ReplyError):
                raise CacheAway(str(reply))
        return replies

    def _open_batch(self) -> _Batch:
        """The one that is sent in this turn of the loop, or once there is a connection."""
        if self._batch is None:
            self._batch = _Batch()
            if self._connection is not None and self._connection.is_open:
                self._connection.loop.call_soon(self._send)
        return self._batch

    def close(self) -> None:
        if self._connection:
            self._connection.close()

    def _is_worth_waiting_for(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Begin to connect, if that is not under way. Whether questions should be kept until there is a connection:
        not after an attempt that has failed."""
        if self._connecting is None and loop.time() >= self._rest_until:
            self._connecting = loop.create_task(self._connect(loop))
        return self._connecting is not None and not self._is_away

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            self._connection = await self._connect_to(
                self._address, [script.text for script in SCRIPTS], LOOK_TIMEOUT_S
            )
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
                _answer(batch, [UNKNOWN] * len(batch.askers))

    def _send(self) -> None:
        batch, self._batch = self._batch, None
        connection = self._connection
        assert batch
        assert connection
        # Before the question is sent: a generation believed now was on when each of these requests had arrived.
        generation = self._generation()
        prefix = None if generation is None else self._store.prefix(connection.run_id, generation)
        data, replies = b"", 0
        try:
            data, replies = self._encode(batch, prefix)
        except Exception:
            # One of them asks for what cannot be written down; all are answered.
            log.exception("what Redis is asked cannot be written")
        if not replies:
            _answer(batch, [UNKNOWN] * len(batch.askers))
            return
        batch.asked_at = time.monotonic()
        answer = connection.send(data, replies, LOOK_TIMEOUT_S)
        answer.add_done_callback(lambda done: self._receive(batch, prefix, done))

    def _encode(self, batch: _Batch, prefix: str | None) -> tuple[bytes, int]:
        """The question, and how many replies it will have."""
        parts, replies = [encode(batch.told)], len(batch.told) + 3 * len(batch.counts)
        if batch.names:
            parts.append(b"*%d\r\n$4\r\nMGET\r\n%b" % (len(batch.names) + 1, b"".join(batch.names)))
            replies += 1
        for limit, count in batch.counts.values():
            before, after = _counting(self._store.name(limit.key), limit.policy.window_s)
            parts.append(b"%b$%d\r\n%d\r\n%b" % (before, len(str(count)), count, after))
        if prefix is None:
            batch.looks.clear()
            batch.follows = False
        elif batch.looks:
            parts.append(encode([self._store.look_command(prefix, each.key, each.tags) for each in batch.looks]))
        if batch.follows:
            assert prefix
            question, batch.asked_from = self._follower.question(prefix)
            parts.append(encode([question]))
        return b"".join(parts), replies + len(batch.looks) + batch.follows

    def _receive(self, batch: _Batch, prefix: str | None, answer: "asyncio.Future[list[Reply]]") -> None:
        if answer.cancelled() or answer.exception():
            _answer(batch, [UNKNOWN] * len(batch.askers))
            return
        try:
            results = self._results(batch, prefix, answer.result())
        except Exception:
            # What replies so is not to be asked again. All who asked are answered, whatever it was.
            log.exception("what Redis replied cannot be read")
            self.close()
            self._rest_until = answer.get_loop().time() + _REST_S
            results = [UNKNOWN] * len(batch.askers)
        _answer(batch, results)

    def _results(self, batch: _Batch, prefix: str | None, everything: list[Reply]) -> list[CheckResult]:
        """What the replies say to each asker. Raises: CacheAway for what is no reply to the question, ValueError for
        too few values or too many."""
        news = self._news(everything.pop(), prefix, batch.asked_from) if batch.follows else None
        replies = iter(everything[len(batch.told) :])
        values: list[Reply] = []
        if batch.names:
            values = _values(next(replies), len(batch.names))
        used = {}
        for key in batch.counts:
            used[key] = _counted([next(replies), next(replies), next(replies)])
        found = [
            self._found(reply, prefix, plan, news, batch.asked_at)
            for reply, plan in zip(replies, batch.looks, strict=True)
        ]
        journal = news.journal if isinstance(news, Position) else None
        looks = iter(found)
        results = []
        named = dict(zip(batch.names, values, strict=True))
        for validators, limit, rank, plan, _ in batch.askers:
            mine = _used(used[limit.key], rank - batch.counts[limit.key][1]) if limit else None
            fresh = validators is not None and validators.holds(prefix, named, journal)
            results.append(CheckResult(fresh, mine, next(looks) if plan and found else None))
        return results

    def _found(
        self, reply: Reply, prefix: str | None, plan: ReadPlan, news: Position | Unjoined | None, asked_at: float
    ) -> Lookup:
        """None where Redis refused to look. Raises: CacheAway."""
        if self._is_refused(reply):
            return None
        assert prefix
        found = found_by(reply, prefix, plan.tags, asked_at)
        return with_news(found, news) if plan.follows else found

    def _news(self, reply: Reply, prefix: str | None, asked_from: int | None) -> Position | Unjoined | None:
        """None where Redis did not say."""
        if self._is_refused(reply):
            return None
        assert prefix
        return self._follower.take(prefix, asked_from, reply)

    def _is_refused(self, reply: Reply) -> bool:
        """What Redis forgot of the connection's scripts, another one brings again."""
        if not isinstance(reply, ReplyError):
            return False
        if str(reply).startswith("NOSCRIPT"):
            self.close()
        return True


@lru_cache(maxsize=4096)
def _counting(name: str, window_s: int) -> tuple[bytes, bytes]:
    """The commands that count on a limit, before and after how much."""
    before = encode([("INCRBY", name, "")]).removesuffix(b"$0\r\n\r\n")
    return before, encode([("EXPIRE", name, window_s, "NX"), ("TTL", name)])


def _values(reply: Reply, count: int) -> list[Reply]:
    """What names stand for; None for each where Redis refused to say. Raises: CacheAway for what is no reply."""
    if isinstance(reply, ReplyError):
        return [None] * count
    if not isinstance(reply, list):
        raise CacheAway("values were asked for, and are not what was answered")
    return reply


def _counted(replies: list[Reply]) -> tuple[int, int] | None:
    """None where Redis refused to count. Raises: CacheAway for what is no reply to that."""
    try:
        return counted_by(replies)
    except CacheAway:
        if any(isinstance(reply, ReplyError) for reply in replies):
            return None
        raise


def _used(counted: tuple[int, int] | None, less: int) -> Used | None:
    """What is used of a limit after one of the requests that were counted together."""
    if counted is None:
        return None
    requests, ends_in_s = counted
    return Used(requests + less, max(1, ends_in_s))


def _answer(batch: _Batch, results: list[CheckResult]) -> None:
    for asker, result in zip(batch.askers, results, strict=True):
        try:
            asker.then(result)
        except Exception:
            # Whoever asked together with it is answered all the same.
            log.exception("a request could not go on with what Redis replied")


def _settle(answer: "asyncio.Future[CheckResult]", result: CheckResult) -> None:
    if not answer.done():
        answer.set_result(result)
