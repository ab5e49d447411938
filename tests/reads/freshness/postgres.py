"""A stand-in for PostgreSQL's transactions, snapshots and switch, with each call a step of the scheduler.

`test_protocol.py` holds its snapshots equal to those of the real one: ids are given out at the first write, a
snapshot's xmax is one above the newest id that is *finished*, and a crash may give ids out a second time.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import psycopg2

from dues.reads.freshness.switch import SETTLE_S, Row, SwitchTable
from tests.reads.freshness.scheduler import Scheduler


@dataclass
class Transaction:
    life: int
    xid: int | None = None
    writes: dict[int, int] = field(default_factory=dict)


class Postgres:
    """Rows numbered 0 to `rows` - 1. `committed[r]` are the values a row ever had, the last one its present value."""

    drops_switch_in_crash = True

    def __init__(self, scheduler: Scheduler, rows: int) -> None:
        self._scheduler = scheduler
        self.committed = [[0] for _ in range(rows)]
        self.switch: Row | None = Row(1, on=True, settled=False)
        self.running: set[int] = set()
        self.next_xid, self.newest_finished = 10, 9
        self.life, self.down_until = 0, float("-inf")
        self._values = itertools.count(1)
        self._newest_commit: dict[int, int] = {}
        self._lost: dict[int, int] = {}
        # What a row's value is again, by the value that a crash has undone.
        self.before_undone: dict[int, int] = {}

    def values(self) -> list[int]:
        """The present values of all rows, as nobody but an onlooker can see them at once."""
        self._recover()
        return [history[-1] for history in self.committed]

    def _recover(self) -> None:
        if self._lost and self._scheduler.now >= self.down_until:
            for row, value in self._lost.items():
                history = self.committed[row]
                if history[-1] == value:
                    history.pop()
                    self.before_undone[value] = history[-1]
            self._lost.clear()

    def _ask(self) -> None:
        self._scheduler.step()
        self._recover()
        if self._scheduler.now < self.down_until:
            raise psycopg2.OperationalError("the server is down")

    def begin(self) -> Transaction:
        self._ask()
        return Transaction(self.life)

    def _alive(self, transaction: Transaction) -> None:
        self._ask()
        if transaction.life != self.life:
            raise psycopg2.OperationalError("the server ended this connection")

    def _give_id(self) -> int:
        self.next_xid += 1
        return self.next_xid - 1

    def write(self, transaction: Transaction, row: int) -> None:
        self._alive(transaction)
        if transaction.xid is None:
            transaction.xid = self._give_id()
            self.running.add(transaction.xid)
        transaction.writes[row] = next(self._values)

    def id_and_switch(self, transaction: Transaction) -> tuple[str, Row | None]:
        self._alive(transaction)
        return str(transaction.xid), self.switch

    def commit(self, transaction: Transaction) -> None:
        self._alive(transaction)
        for row, value in transaction.writes.items():
            self.committed[row].append(value)
        self._newest_commit = dict(transaction.writes)
        self._finish(transaction)

    def roll_back(self, transaction: Transaction) -> None:
        if transaction.life == self.life:
            self._finish(transaction)

    def _finish(self, transaction: Transaction) -> None:
        if transaction.xid is not None:
            self.running.discard(transaction.xid)
            self.newest_finished = max(self.newest_finished, transaction.xid)

    def read(self, rows: tuple[int, ...]) -> tuple[list[int], str]:
        """One statement: the rows' values and its snapshot."""
        self._ask()
        xmax = self.newest_finished + 1
        running = sorted(xid for xid in self.running if xid < xmax)
        snapshot = f"{running[0] if running else xmax}:{xmax}:{','.join(map(str, running))}"
        return [self.committed[row][-1] for row in rows], snapshot

    def crash(self, down_s: float) -> None:
        """All that runs is rolled back. Ids that only rolled-back transactions had are given out again. A server
        that comes back only when nobody can hold a belief from before any more may have lost its newest commit."""
        if down_s > SETTLE_S:
            self._lost = self._newest_commit
        self._newest_commit = {}
        self.running.clear()
        self.life += 1
        self.down_until = self._scheduler.now + down_s
        if self.drops_switch_in_crash:
            self.switch = None
        self.next_xid = self.newest_finished + 1


class Table(SwitchTable):
    """The switch's row in the stand-in; the same conditions as in its SQL."""

    def __init__(self, postgres: Postgres, generations: Callable[[], int]) -> None:
        self._postgres, self._generations = postgres, generations

    def read(self) -> Row | None:
        self._postgres._ask()
        return self._postgres.switch

    def close(self, generation: int, why: str = "") -> None:
        row = self.read()
        if row and row.on and row.generation == generation:
            self._postgres.switch = Row(generation, on=False, settled=False)

    def settle(self, generation: int | None) -> None:
        row = self.read()
        if row is None:
            self._postgres.switch = Row(self._generations(), on=False, settled=True)
        elif not row.on and row.generation == generation:
            self._postgres.switch = Row(generation, on=False, settled=True)

    def open(self, generation: int) -> bool:
        row = self.read()
        if row != Row(generation, on=False, settled=True):
            return False
        self._postgres.switch = Row(self._generations(), on=True, settled=False)
        return True

    def new_xid(self) -> str:
        self._postgres._ask()
        xid = self._postgres._give_id()
        self._postgres.newest_finished = max(self._postgres.newest_finished, xid)
        return str(xid)
