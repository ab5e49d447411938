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


@dataclass(eq=False)
class Transaction:
    life: int
    xid: int | None = None
    writes: dict[int, int] = field(default_factory=dict)


@dataclass(eq=False)
class Event:
    """Something in the log that standbys replay: a commit, which may have written a mark."""

    writes: dict[int, int]
    mark: int | None = None


class Postgres:
    """Rows numbered 0 to `rows` - 1. `committed[r]` are the values a row ever had, the last one its present value."""

    drops_switch_in_crash = True

    def __init__(self, scheduler: Scheduler, rows: int) -> None:
        self._scheduler = scheduler
        self.committed = [[0] for _ in range(rows)]
        self.log: list[Event] = []
        self.committing: list[Transaction] = []
        self.is_followed = False
        self.mark: tuple[int, int, str] | None = None
        self.switch: Row | None = Row(1, on=True, settled=False)
        self.running: set[int] = set()
        self.next_xid, self.newest_finished = 10, 9
        self.life, self.down_until = 0, float("-inf")
        self._values = itertools.count(1)
        self._newest_commit: dict[int, int] = {}
        self._newest_commit_xid: int | None = None
        # From which event of the log on the newest commit, and what came after it, may be lost.
        self._commits_from = 0
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
        while self.committing:
            # Who writes the same row waits; here it is whoever commits.
            self._alive(transaction)
        self._newest_commit = dict(transaction.writes)
        self._newest_commit_xid = transaction.xid
        self._commits_from = len(self.log)
        self.log.append(Event(self._newest_commit))
        self.committing.append(transaction)
        if self.is_followed:
            # What is in the log is committed, and a standby may show it before the primary does.
            for _ in range(self._scheduler.random.choice((0, 0, 3, 30))):
                self._scheduler.step()
        if transaction in self.committing:
            self._show(transaction)
        if transaction.life != self.life:
            raise psycopg2.OperationalError("the server ended this connection")

    def _show(self, transaction: Transaction) -> None:
        self.committing.remove(transaction)
        for row, value in transaction.writes.items():
            self.committed[row].append(value)
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
        return [self.committed[row][-1] for row in rows], self._snapshot()

    def _snapshot(self) -> str:
        xmax = self.newest_finished + 1
        running = sorted(xid for xid in self.running if xid < xmax)
        return f"{running[0] if running else xmax}:{xmax}:{','.join(map(str, running))}"

    def make_mark(self, number: int) -> None:
        """As MAKE of marks.py: its snapshot is of its beginning, and its commit comes later."""
        self._ask()
        snapshot, switch, life = self._snapshot(), self.switch, self.life
        self._ask()
        if switch and switch.on and life == self.life:
            self.mark = number, switch.generation, snapshot
            self.log.append(Event({}, number))

    def read_mark(self) -> tuple[int, int, str] | None:
        """As READ of marks.py."""
        self._ask()
        is_of_now = self.mark and self.switch and self.mark[1] == self.switch.generation
        return self.mark if is_of_now else None

    def crash(self, down_s: float) -> None:
        """All that runs is rolled back. Ids that only rolled-back transactions had are given out again. A server
        that comes back only when nobody can hold a belief from before any more may have lost its newest commit."""
        for transaction in list(self.committing):
            self._show(transaction)
        if down_s > SETTLE_S:
            self._lost = self._newest_commit
            if self._lost:
                del self.log[self._commits_from :]
                if self.is_followed and self._newest_commit_xid == self.newest_finished:
                    # Its id is given out again, too.
                    self.newest_finished -= 1
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
