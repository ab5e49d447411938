"""The real code of the protocol, driven over random interleavings with every fault we know.

Real: the scripts, on a real Valkey; Store, Writer, Reader, Belief, Restorer. Stand-ins: PostgreSQL (postgres.py), the
clock, and the wire, whose every call is a step at which any other actor may go on (scheduler.py) and which fails at
random (redis.py). Counted as wrong: an answer from the cache that is older than something committed before it was
asked for, or that was never committed.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg2

from dues.reads.freshness.reader import Computed, Reader
from dues.reads.freshness.store import Proof, Store
from dues.reads.freshness.switch import Belief, Restorer, Row
from dues.reads.freshness.writer import Writer
from dues.redis.wire import CacheAway
from tests.reads.freshness.postgres import Postgres, Table
from tests.reads.freshness.redis import Faults, Redis, SteppedPool
from tests.reads.freshness.scheduler import Scheduler

ROWS = 3


@dataclass
class Chances:
    """How likely each fault is, at each turn of the chaos actor or step of a writer."""

    lost_call: float = 0.01
    flush: float = 0.004
    restart: float = 0.004
    evict: float = 0.05
    cut: float = 0.005
    crash: float = 0.002
    death: float = 0.01
    long_transaction: float = 0.25
    slow_reading: float = 0.2


NO_FAULTS = Chances(lost_call=0, flush=0, restart=0, evict=0, cut=0, crash=0, death=0)


@dataclass
class Tally:
    hits: int = 0
    wrong: int = 0
    kept: int = 0
    writes: int = 0


class Rules:
    """Rules that the actors here follow; tests break one at a time."""

    touch_before_commit = True
    id_before_switch = True


@dataclass
class Process:
    belief: Belief
    pool: SteppedPool
    store: Store
    writer: Writer
    reader: Reader
    memory: dict[tuple[int, ...], tuple[Proof, list[int]]] = field(default_factory=dict)


class World:
    def __init__(self, seed: int, redis_url: str, chances: Chances) -> None:
        self.scheduler = Scheduler(seed)
        self.random: random.Random = self.scheduler.random
        self.chances, self.tally = chances, Tally()
        self.redis = Redis(redis_url)
        self.postgres = Postgres(self.scheduler, ROWS)
        self._generation = 1
        self.table = Table(self.postgres, self.next_generation)
        self.processes = [self._process() for _ in range(3)]
        self.restorer = Restorer(self.table, self.processes[2].store.takes_writes, self.scheduler.clock)
        for process in self.processes:
            for actor in (self.poller, self.reader, self.reader, self.remembering_reader):
                self.scheduler.add(self._of(actor, process))
        for process in self.processes[:2]:
            self.scheduler.add(self._of(self.writer, process))
        for solo in (self.relay, self.bystander, self.chaos):
            self.scheduler.add(self._surviving(solo))

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
        pool = SteppedPool(self.redis, self.scheduler, Faults(self.chances.lost_call))
        store, belief = Store("redis://unused", pool=pool), Belief(self.scheduler.clock)
        sleep, clock = self.scheduler.sleep, self.scheduler.clock
        reader = Reader(store, belief.generation, self.table.new_xid, 3600, sleep, clock)
        return Process(belief, pool, store, Writer(store, self.table, sleep), reader)

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
        rows = tuple(sorted(self.random.sample(range(ROWS), self.random.choice((1, 2)))))
        asked = self._now(rows)

        def compute() -> Computed:
            self.pause(0, 0, 3)
            values, snapshot = self.postgres.read(rows)
            self.pause(0, 1, 20)
            return Computed(repr(values).encode(), snapshot)

        result = process.reader.read_alone(repr(rows), [f"row{r}" for r in rows], compute)
        values: list[int] = eval(result.payload)
        if result.hit:
            self._judge(rows, asked, values)
        elif result.proof:
            self.tally.kept += 1
        if result.proof:
            process.memory[rows] = (result.proof, values)

    def remembering_reader(self, process: Process) -> None:
        """Answers from the process's own memory, as the front door does."""
        self.pause(1)
        if not process.memory:
            return
        rows = self.random.choice(sorted(process.memory))
        asked = self._now(rows)
        self.pause(0, 1)
        proof, values = process.memory[rows]
        generation = process.belief.generation()
        if generation is not None and process.store.check(generation, proof):
            self._judge(rows, asked, values)

    def _now(self, rows: tuple[int, ...]) -> list[int]:
        values = self.postgres.values()
        return [values[row] for row in rows]

    def _judge(self, rows: tuple[int, ...], asked: list[int], values: list[int]) -> None:
        self.tally.hits += 1
        for row, before, value in zip(rows, asked, values, strict=True):
            history = self.postgres.committed[row]
            if value != before and value not in history[history.index(before) if before in history else -1 :]:
                self.tally.wrong += 1
                return

    def writer(self, process: Process) -> None:
        rows = self.random.sample(range(ROWS), self.random.choice((1, 1, 2)))
        tags = [f"row{row}" for row in rows]
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
                process.writer.touch(tags, xid, switch)
                self.pause(0, 0, 2, 60)
            self._may_die()
            self.postgres.commit(transaction)
        except (psycopg2.OperationalError, InterruptedError):
            self.postgres.roll_back(transaction)
            return
        self.tally.writes += 1
        if not Rules.touch_before_commit:
            self.pause(1)
            process.writer.touch(tags, xid, switch)

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
        if self.chance(chances.cut):
            faults = self.random.choice(self.processes).pool.faults
            faults.cut = not faults.cut
        if redis.late and self.chance(0.3):
            redis.apply_late(self.random.randrange(len(redis.late)))
        if self.chance(chances.crash):
            self.postgres.crash(self.random.choice((0.1, 2.0)))
