"""Reads through the cache on the event loop: takes the steps of dues/reads/freshness/read_protocol.py, awaits each."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from contextvars import Context
from dataclasses import dataclass
from typing import Any, Protocol

from api.routing import Priority, Route
from api.server.metrics_buffer import Tally
from api.server.redis_batch import Checks
from api.server.replicas import Replicas
from dues.errors import Problem, Unavailable
from dues.observability.metrics import REPLICA_READS
from dues.observability.trace import record_statement
from dues.postgres import NotAsked
from dues.postgres.aio import Lost
from dues.reads import ReadPlan
from dues.reads.freshness.read_protocol import (
    Ask,
    Check,
    Compute,
    Computed,
    ComputeOnReplica,
    Look,
    Lookup,
    NewTransactionId,
    Pause,
    ReadProtocol,
    Result,
    Step,
    Tell,
    WaitFor,
)
from dues.reads.freshness.store import Miss, Store
from dues.reads.freshness.switch import NEW_XID
from dues.reads.freshness.validator import ValidatorSet
from dues.redis.wire import CacheAway
from dues.stores.access import Access

FetchRow = Callable[[str, Mapping[str, object]], Awaitable[tuple[Any, ...] | None]]


@dataclass(slots=True)
class Wanted:
    """A read that a request asks for; `db_s` is how many seconds PostgreSQL took for it, -1 where it was not asked.
    span: that of the request, where it is recorded. of_replica: a replica has answered it."""

    route: Route
    access: Access
    plan: ReadPlan
    priority: Priority
    span: str | None = None
    db_s: float = -1.0
    of_replica: bool = False


class Turns(Protocol):
    """Which statement may run next: api/server/admission.py."""

    def turn(self, priority: Priority) -> AbstractAsyncContextManager[None]: ...


class LoopRound:
    """A round that tasks wait for. Most are waited for by none, so what they would wait on is made when one does."""

    __slots__ = ("_ended", "_has_ended", "error", "result")

    def __init__(self) -> None:
        self._ended: asyncio.Event | None = None
        self._has_ended = False
        self.result: Result | None = None
        self.error: Exception | None = None

    def end(self) -> None:
        self._has_ended = True
        if self._ended:
            self._ended.set()

    async def wait(self) -> None:
        if not self._has_ended:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()


class LoopReader:
    """For one event loop. `fetch_row` raises Lost and Unavailable, as that of LoopPostgres; statements are written and
    rows understood in `context`."""

    def __init__(
        self,
        checks: Checks,
        store: Store,
        fetch_row: FetchRow,
        turns: Turns,
        tally: Tally,
        life_s: float,
        context: Context,
        clock: Callable[[], float] = time.monotonic,
        replicas: Replicas | None = None,
    ) -> None:
        self._checks, self._fetch_row, self._turns, self._tally = checks, fetch_row, turns, tally
        self._context, self._replicas = context, replicas
        has_replicas = replicas is not None
        self._protocol = ReadProtocol(store, life_s, LoopRound, tally.add_read, clock, has_replicas=has_replicas)

    async def read(self, wanted: Wanted, found: Lookup) -> Result:
        """The answer to what is wanted, which has been looked up already: see `ReadProtocol.read`.

        Raises: Lost, Unavailable, and what the plan's own methods raise.
        """
        steps = self._protocol.read(wanted.plan.key, wanted.plan.tags, follows=wanted.plan.follows)
        next(steps)
        try:
            step = steps.send(found)
            while True:
                try:
                    outcome = await self._take(step, wanted)
                except BaseException as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(outcome)
        except StopIteration as end:
            if wanted.of_replica:
                REPLICA_READS.labels("answered").inc()
            result: Result = end.value
            return result

    async def _take(self, step: Step, wanted: Wanted) -> Any:
        outcome: Any = None
        match step:
            case Compute():
                outcome = await self._compute(wanted)
            case ComputeOnReplica(miss):
                outcome = await self._compute_on_replica(wanted, miss)
            case Check(validator):
                outcome = (await self._checks.ask(ValidatorSet.over([validator]), None)).fresh
            case Tell(commands):
                self._checks.tell(commands)
            case Look():
                outcome = (await self._checks.ask(None, None, wanted.plan)).found
            case WaitFor(ahead):
                await ahead.wait()
            case Pause(seconds):
                await asyncio.sleep(seconds)
            case Ask(commands):
                outcome = await self._checks.call(commands)
            case NewTransactionId():
                outcome = await self._transaction_id()
        return outcome

    async def _compute_on_replica(self, wanted: Wanted, miss: Miss) -> Computed | None:
        assert self._replicas
        began = time.perf_counter()
        try:
            sql, values = await self._statement(wanted.plan)
            seen = await self._replicas.fetch_row(miss.validator, sql, values, wanted.priority)
            answer = self._context.run(wanted.plan.computed, seen.row) if seen else None
        except Problem:
            # What is refused, or not found, is said by the primary.
            return None
        if seen is None or answer is None:
            return None
        wanted.db_s, wanted.of_replica = time.perf_counter() - began, True
        self._tally.add_statements(1, wanted.db_s)
        if wanted.span:
            record_statement(sql, wanted.db_s, wanted.span)
        return answer._replace(snapshot=seen.snapshot)

    async def _compute(self, wanted: Wanted) -> Computed:
        if wanted.of_replica:
            REPLICA_READS.labels("refused").inc()
            wanted.of_replica = False
        sql, values = await self._statement(wanted.plan)
        async with self._turns.turn(wanted.priority):
            began = time.perf_counter()
            row = await self._fetch_row(sql, values)
            wanted.db_s = time.perf_counter() - began
        if wanted.span:
            record_statement(sql, wanted.db_s, wanted.span)
        self._tally.add_statements(1, wanted.db_s)
        return self._context.run(wanted.plan.computed, row)

    async def _statement(self, plan: ReadPlan) -> tuple[str, Mapping[str, object]]:
        try:
            return self._context.run(plan.statement)
        except NotAsked as question:
            self._context.run(question.answered, await self._fetch_row(question.sql, {}))
            return self._context.run(plan.statement)

    async def _transaction_id(self) -> str:
        try:
            row = await self._fetch_row(NEW_XID, {})
        except (Lost, Unavailable) as error:
            raise CacheAway(f"no transaction id: {error}") from error
        assert row
        return str(row[0])
