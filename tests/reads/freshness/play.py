"""What the actors of the interleavings are given: how likely faults are, what is counted, and reads as plans."""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from api.routing import Priority
from dues.reads.freshness import Computed, Result
from tests.reads.freshness.scheduler import Scheduler


@dataclass
class Chances:
    """How likely each fault is, at each turn of the chaos actor or step of a writer."""

    lost_call: float = 0.01
    slow_call: float = 0.02
    flush: float = 0.004
    restart: float = 0.004
    evict: float = 0.05
    cut: float = 0.005
    crash: float = 0.002
    death: float = 0.01
    long_transaction: float = 0.25
    slow_reading: float = 0.2
    promotion: float = 0.0005


NO_FAULTS = Chances(lost_call=0, slow_call=0, flush=0, restart=0, evict=0, cut=0, crash=0, death=0, promotion=0)


@dataclass
class Tally:
    """`remembered`: answers from a process's own memory; `shared`: those that another read of its process computed;
    `of_replicas`: what was asked of standbys."""

    hits: int = 0
    remembered: int = 0
    shared: int = 0
    wrong: int = 0
    kept: int = 0
    writes: int = 0
    of_replicas: int = 0


class Rules:
    """Rules that the actors here follow; tests break one at a time."""

    touch_before_commit = True
    id_before_switch = True


class Round:
    """A round that threads of the scheduler wait for."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._has_ended = False
        self.result: Result | None = None
        self.error: Exception | None = None

    def end(self) -> None:
        self._has_ended = True

    def wait(self) -> None:
        while not self._has_ended:
            self._scheduler.step()


class Plan:
    """A read of rows, as the event loop plans one. One that `follows` the journal knows by a tag of the first row
    alone, and by words of the others, which are its audience's but for one."""

    def __init__(self, rows: tuple[int, ...], *, follows: bool = False) -> None:
        self.rows, self.key, self.follows = rows, repr(rows), follows
        self.tags = tuple(f"row{row}" for row in rows if row == 0 or not follows) or ("constant",)
        self.is_computed = False

    def statement(self) -> tuple[str, Mapping[str, object]]:
        return "", {"rows": self.rows}

    def computed(self, row: Any) -> Computed:
        self.is_computed = True
        values, snapshot = row
        audience = b"".join([word(row) for row in self.rows if row > 1])
        return Computed(repr(values).encode(), snapshot, None, word(1) if 1 in self.rows else b"", audience)


def word(row: int) -> bytes:
    """As the journal names a row."""
    return b"row%05d" % row


class Turns:
    def turn(self, priority: Priority) -> nullcontext[None]:
        return nullcontext()
