"""The real code of the protocol, driven over random interleavings with every fault we know.

Real: the scripts, on a real Valkey; Store, Writer, Belief, Restorer; the reads of both servers: Reader on threads, and
LoopReader with Checks and LoopConnection on an event loop. Stand-ins: PostgreSQL (postgres.py), the clock, and the
wire, whose every call is a step at which any other actor may go on (scheduler.py) and which fails at random (redis.py,
loop.py). Counted as wrong: an answer that is older than something committed before it was asked for, that was never
committed, or that is another question's.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psycopg2

from api.routing import Priority
from api.server.loop_reader import LoopReader, Wanted
from api.server.metrics_buffer import Tally as Counts
from api.server.redis_batch import Checks
from api.server.replicas import Replica, Replicas
from dues.postgres.aio import Lost
from dues.reads.freshness import Computed, Result, ValidatorSet
from dues.reads.freshness.reader import Reader
from dues.reads.freshness.store import Store
from dues.reads.freshness.switch import NEW_XID, Belief, Restorer, Row
from dues.reads.freshness.writer import Writer
from dues.redis.wire import Address, CacheAway
from tests.reads.freshness.loop import Connector, SteppedLoop
from tests.reads.freshness.play import Chances, Plan, Round, Rules, Tally, Turns, word
from tests.reads.freshness.postgres import Postgres, Table
from tests.reads.freshness.redis import Faults, Redis, SteppedPool
from tests.reads.freshness.scheduler import Scheduler
from tests.reads.freshness.standby import Standby

ROWS = 3
# Requests at once to one event loop.
_REQUESTS = 3


def takes_writes(store: Store) -> bool:
    """What the relay asks before it turns the cache on again, as a step of the scheduler."""
    try:
        store.ask([("SET", store.name("probe"), "1", "PX", 1000)])
    except CacheAway:
        return False
    return True


@dataclass
class Process:
    belief: Belief
    faults: Faults
    store: Store
    writer: Writer
    reader: Reader
    connector: Connector
    memory: dict[tuple[int, ...], tuple[ValidatorSet, list[int]]] = field(default_factory=dict)


class World:
    """With `follows` all reads follow the journal; with `replicas` two standbys answer some of them."""

    def __init__(
        self, seed: int, redis_url: str, chances: Chances, *, follows: bool = False, replicas: bool = False
    ) -> None:
        self.follows, self.has_replicas = follows, replicas
        self.scheduler = Scheduler(seed)
        self.random: random.Random = self.scheduler.random
        self.chances, self.tally = chances, Tally()
        self.redis = Redis(redis_url)
        self.postgres = Postgres(self.scheduler, ROWS)
        self._generation = 1
        self.table = Table(self.postgres, self.next_generation)
        self.processes = [self._process() for _ in range(3)]
        self.restorer = Restorer(self.table, partial(takes_writes, self.processes[2].store), self.scheduler.clock)
        for process in self.processes:
            for actor in (self.poller, self.reader, self.reader):
                self.scheduler.add(self._of(actor, process))
            self.scheduler.add(self._of(self.server, process), weight=_REQUESTS)
        for process in self.processes[:2]:
            self.scheduler.add(self._of(self.writer, process))
        for solo in (self.relay, self.bystander, self.chaos):
            self.scheduler.add(self._surviving(solo))
        self.postgres.is_followed = replicas
        # By row, the newest value that is not shown by the primary yet, and was given in an answer.
        self._told: dict[int, int] = {}
        self.standbys = [Standby(self.postgres, self.random) for _ in range(2)] if replicas else []
        for standby in self.standbys:
            self.scheduler.add(partial(self.standby, standby))
        if replicas:
            self.scheduler.add(self._surviving(self.marker))

    def run(self, steps: int) -> Tally:
        """Go on for `steps`, or until something is wrong."""
        try:
            self.scheduler.run(steps, lambda: self.tally.wrong > 0)
        finally:
            self.redis.close()
        return self.tally

    def next_generation(self) -> int:
        self._generation += 1
        return self._generation

    def _process(self) -> Process:
        faults = Faults(self.chances.lost_call, self.chances.slow_call)
        store = Store("redis://unused", pool=SteppedPool(self.redis, self.scheduler, faults))
        sleep, clock, belief = self.scheduler.sleep, self.scheduler.clock, Belief(self.scheduler.clock)
        reader = Reader(store, belief.generation, self.table.new_xid, 3600, sleep, clock, lambda: Round(self.scheduler))
        connector = Connector(self.redis, self.random, faults)
        return Process(belief, faults, store, Writer(store, self.table, sleep), reader, connector)

    def _of(self, actor: Callable[[Process], None], process: Process) -> Callable[[], None]:
        return self._surviving(lambda: actor(process))

    def _surviving(self, actor: Callable[[], None]) -> Callable[[], None]:
        def survive() -> None:
            try:
                actor()
            except (psycopg2.OperationalError, CacheAway):
                self.scheduler.step()

        return survive

    def chance(self, likely: float) -> bool:
        return self.random.random() < likely

    def pause(self, *lengths: int) -> None:
        for _ in range(self.random.choice(lengths)):
            self.scheduler.step()

    def poller(self, process: Process) -> None:
        self.pause(30 if self.chance(self.chances.slow_reading) else 4)

        def row() -> Row | None:
            found = self.table.read()
            self.pause(30 if self.chance(self.chances.slow_reading) else 0)
            return found

        process.belief.read(row)

    def reader(self, process: Process) -> None:
        rows = self._some_rows()
        asked = self._now(rows)

        def compute() -> Computed:
            self.pause(0, 0, 3)
            row = self.postgres.read(rows)
            self.pause(0, 1, 20)
            return plan.computed(row)

        plan = Plan(rows, follows=self.follows)
        result = process.reader.read(plan.key, plan.tags, compute, follows=self.follows)
        self._take(rows, asked, result)

    def server(self, process: Process) -> None:
        """The event loop of a web server, and requests to it."""
        checks = Checks(
            Address.parse("redis://unused"), process.store, process.belief.generation, connect=process.connector
        )
        replicas = self._replicas() if self.has_replicas else None
        clock = self.scheduler.clock
        reader = LoopReader(
            checks, process.store, self._fetch_row, Turns(), Counts(), 3600, copy_context(), clock, replicas=replicas
        )
        actors = [self._requests(process, checks, reader) for _ in range(_REQUESTS)]
        SteppedLoop(self.scheduler).run(*actors, *([self._watch(replicas)] if replicas else []))

    def _replicas(self) -> Replicas:
        async def read_mark(sql: str, values: Mapping[str, Any]) -> tuple[Any, ...] | None:
            await self._pause(0, 3)
            try:
                found = self.postgres.read_mark()
            except psycopg2.OperationalError as error:
                raise Lost from error
            await self._pause(0, 1, 20)
            return found and (*found, self.scheduler.clock())

        async def fetch_row(standby: Standby, sql: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
            await self._pause(0, 0, 3)
            row = standby.fetch_row(sql, values.get("rows", ()))
            self.tally.of_replicas += "rows" in values
            await self._pause(0, 1, 20)
            return row

        turns: Any = Turns()
        found = [Replica(str(number), partial(fetch_row, each), turns) for number, each in enumerate(self.standbys)]
        return Replicas(found, read_mark, self.scheduler.clock)

    async def _watch(self, replicas: Replicas) -> None:
        while True:
            await replicas.look()
            await self._pause(0, 3)

    def standby(self, standby: Standby) -> None:
        """Replays late, and once in a long while is promoted by mistake."""
        self.pause(2)
        standby.go_on()
        if self.chance(self.chances.promotion):
            standby.promote()

    async def _requests(self, process: Process, checks: Checks, reader: LoopReader) -> None:
        while True:
            await self._pause(0, 1)
            try:
                await self._request(process, checks, reader)
            except (Lost, psycopg2.OperationalError):
                await self._pause(1)

    async def _request(self, process: Process, checks: Checks, reader: LoopReader) -> None:
        """An answer from the process's own memory if it is fresh, else one through the cache."""
        rows = self._some_rows()
        asked = self._now(rows)
        plan, known = Plan(rows, follows=self.follows), process.memory.get(rows)
        result = await checks.ask(known and known[0], None, None if known else plan)
        if known and result.fresh:
            self.tally.remembered += 1
            self._judge(rows, asked, known[1])
            return
        if known:
            result = await checks.ask(None, None, plan)
        answer = await reader.read(Wanted(None, None, plan, Priority.READ), result.found)  # type: ignore[arg-type]
        self.tally.shared += not (answer.hit or plan.is_computed)
        values = self._take(rows, asked, answer)
        if answer.validator and (validators := ValidatorSet.over([answer.validator])):
            process.memory[rows] = validators, values

    async def _fetch_row(self, sql: str, values: Mapping[str, Any]) -> tuple[Any, ...]:
        await self._pause(0, 0, 3)
        try:
            if sql == NEW_XID:
                return (self.table.new_xid(),)
            row = self.postgres.read(values["rows"])
        except psycopg2.OperationalError as error:
            raise Lost from error
        await self._pause(0, 1, 20)
        return row

    async def _pause(self, *lengths: int) -> None:
        for _ in range(self.random.choice(lengths)):
            await asyncio.sleep(0)

    def _some_rows(self) -> tuple[int, ...]:
        return tuple(sorted(self.random.sample(range(ROWS), self.random.choice((1, 2)))))

    def _take(self, rows: tuple[int, ...], asked: list[int], result: Result) -> list[int]:
        values: list[int] = eval(result.payload)
        self.tally.hits += result.hit
        self.tally.kept += result.validator is not None and not result.hit
        self._judge(rows, asked, values)
        return values

    def _now(self, rows: tuple[int, ...]) -> list[int]:
        values = self.postgres.values()
        return [self._told[row] if self._is_ahead(row, self._told.get(row)) else values[row] for row in rows]

    def _is_ahead(self, row: int, value: int | None) -> bool:
        """Whether the primary has committed it, and does not show it yet."""
        return any(each.writes.get(row) == value for each in self.postgres.committing) if value is not None else False

    def _judge(self, rows: tuple[int, ...], asked: list[int], values: list[int]) -> None:
        for row, before, value in zip(rows, asked, values, strict=True):
            if self._is_ahead(row, value):
                self._told[row] = value
                continue
            history, oldest = self.postgres.committed[row], before
            if self._is_ahead(row, before):
                self.tally.wrong += 1
                return
            while oldest not in history:
                oldest = self.postgres.before_undone[oldest]
            # What a crash has undone was there when it was asked for.
            if value != before and value not in history[history.index(oldest) :]:
                self.tally.wrong += 1
                return

    def writer(self, process: Process) -> None:
        rows = self.random.sample(range(ROWS), self.random.choice((1, 1, 2)))
        tags = [f"row{row}" for row in rows]
        words = b"".join(map(word, rows)) if self.follows else b""
        transaction = self.postgres.begin()
        try:
            self.pause(0, 2)
            early = self.postgres.switch
            self.pause(*((0, 60) if not Rules.id_before_switch else (0,)))
            for row in rows:
                self.postgres.write(transaction, row)
            self.pause(60 if self.chance(self.chances.long_transaction) else 1)
            self._may_die()
            xid, switch = self.postgres.id_and_switch(transaction)
            if not Rules.id_before_switch:
                switch = early
            if Rules.touch_before_commit:
                process.writer.touch(tags, xid, switch, words)
                self.pause(0, 0, 2, 60)
            self._may_die()
            self.postgres.commit(transaction)
        except (psycopg2.OperationalError, InterruptedError):
            self.postgres.roll_back(transaction)
            return
        self.tally.writes += 1
        if not Rules.touch_before_commit:
            self.pause(1)
            process.writer.touch(tags, xid, switch, words)

    def _may_die(self) -> None:
        if self.chance(self.chances.death):
            raise InterruptedError

    def bystander(self) -> None:
        """Transactions that have nothing to do with us: they move PostgreSQL's ids on, and some take long."""
        transaction = self.postgres.begin()
        self.postgres.write(transaction, 0)
        transaction.writes.clear()
        self.pause(0, 3, 40)
        self.postgres.roll_back(transaction)
        self.pause(2)

    def relay(self) -> None:
        self.pause(4)
        self.restorer.restore_once(self.table.read())

    def marker(self) -> None:
        self.pause(1)
        self.postgres.make_mark(self.random.getrandbits(62))

    def chaos(self) -> None:
        self.pause(1)
        chances, redis = self.chances, self.redis
        if self.chance(chances.flush):
            redis.flush()
        if self.chance(0.01):
            redis.copy()
        if self.chance(chances.restart):
            redis.restart(with_copy=self.chance(0.7))
        if self.chance(chances.evict) and (names := redis.names()):
            redis.call(("DEL", self.random.choice(names)))
        if self.has_replicas:
            # What nobody has changed is asked for again: replicas answer nothing else.
            self.random.choice(self.processes).memory.clear()
            for name in redis.names():
                if b":e:" in name and self.chance(0.3):
                    redis.call(("DEL", name))
        faults = self.random.choice(self.processes).faults
        faults.cut = self.chance(0.9) if faults.cut else self.chance(chances.cut)
        if redis.late and self.chance(0.3):
            redis.apply_late(self.random.randrange(len(redis.late)))
        if self.chance(chances.crash):
            self.postgres.crash(self.random.choice((0.1, 2.0)))
