"""Who may go to Flask next, or to PostgreSQL: as many at once as there are threads, or connections, the important
first, and nobody waits for long.

Under overload a server that takes everybody serves nobody in time. So who would wait longer than his kind of request
is worth is turned away at once, the least important first, and the threads do work that somebody still waits for.
"""

import asyncio
import time
from collections import deque
from enum import IntEnum
from math import ceil

from dues.errors import Unavailable


class Priority(IntEnum):
    """What kind of request it is; the lower goes first and is shed last."""

    WRITE = 0
    READ = 1
    FEED = 2


# How many seconds the first in line may have waited before newcomers of its kind, and those behind, are turned away.
_PATIENCE_S = {Priority.WRITE: 5.0, Priority.READ: 2.0, Priority.FEED: 1.0}
# Writes without end must not keep every read waiting until it is turned away.
_LONGEST_WAITING_EVERY = 4
# A statement that takes longer than this runs beside the others: a read by index takes a fiftieth of it.
_LONG_S = 0.02
# What the process itself does for a read, and has to wait for it under load, takes about so long.
_WORK_S = 0.0005
_FEWEST_TURNS = 2
_LEARN_EVERY_S = 1.0
# However fast the line moves, no more than this may stand in it: each holds a request in memory.
_LONGEST_LINE = {Priority.WRITE: 2000, Priority.READ: 1500, Priority.FEED: 500}


class Slots:
    """For one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._owed = 0
        self._passed = 0
        self._lines: dict[Priority, deque[tuple[float, asyncio.Future[None]]]] = {p: deque() for p in Priority}
        self.shed = 0

    @property
    def waiting(self) -> int:
        return sum(len(line) for line in self._lines.values())

    def taken(self, priority: Priority) -> "_Taken":
        """`async with` it to hold a slot for the block. Raises: Unavailable for who is turned away."""
        return _Taken(self, priority)

    async def take(self, priority: Priority) -> None:
        """Whoever returns from here has a slot, until `pass_on()`. Raises: Unavailable."""
        if self._free and not self.waiting:
            self._free -= 1
            return
        line = self._lines[priority]
        if len(line) >= _LONGEST_LINE[priority] or self._is_late(priority):
            self._turn_away()
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        line.append((time.monotonic(), place))
        # Twice the patience, because the more important pass who already stands here.
        timer = loop.call_later(2 * _PATIENCE_S[priority], _give_up, place)
        try:
            await place
        except TimeoutError:
            self._turn_away()
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.pass_on()
            raise
        finally:
            timer.cancel()

    def _is_late(self, priority: Priority) -> bool:
        line = self._lines[priority]
        while line and line[0][1].done():
            line.popleft()
        return bool(line) and time.monotonic() - line[0][0] > _PATIENCE_S[priority]

    def _turn_away(self) -> None:
        self.shed += 1
        raise Unavailable("too many requests are waiting", code="overloaded", headers={"Retry-After": "2"})

    def pass_on(self) -> None:
        """Give up a slot: to the first of the most important who wait, every fourth time to who has waited longest."""
        if self._owed:
            self._owed -= 1
            return
        self._passed += 1
        lines = list(filter(None, self._lines.values()))
        if self._passed % _LONGEST_WAITING_EVERY == 0:
            lines.sort(key=lambda line: line[0][0])
        for line in lines:
            while line:
                _, place = line.popleft()
                if not place.done():
                    place.set_result(None)
                    return
        self._free += 1

    def change(self, by: int) -> None:
        """Have so many slots more, or fewer; those that are taken then are given up as they are passed on."""
        for _ in range(by):
            self.pass_on()
        for _ in range(-by):
            if self._free:
                self._free -= 1
            else:
                self._owed += 1


class Turns:
    """Who may have a statement run: as many at once as are needed for one to be there whenever the process is done with
    another, which follows from how long the quickest takes. More would compete for processors, where PostgreSQL shares
    them, with those who wait for them. A statement that takes long passes its turn on and runs beside the others, so
    that a few slow ones do not keep all others waiting. Never more than `most` run. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._at_once = min(_FEWEST_TURNS, most)
        self._long = 0
        self._slots = Slots(self._at_once)
        self._quickest_s, self._learnt_at = float("inf"), time.monotonic()

    def taken(self, priority: Priority) -> "_Turn":
        """`async with` it to have a turn for the block. Raises: Unavailable for who is turned away."""
        return _Turn(self, priority)

    async def take(self, priority: Priority) -> None:
        await self._slots.take(priority)

    def is_long(self) -> bool:
        """Pass a turn on whose holder goes on all the same; False where too many run already."""
        if self._at_once + self._long >= self._most:
            return False
        self._long += 1
        self._slots.pass_on()
        return True

    def end(self, seconds: float, *, was_long: bool) -> None:
        if was_long:
            self._long -= 1
        else:
            self._slots.pass_on()
        self._quickest_s = min(self._quickest_s, seconds)
        moment = time.monotonic()
        if moment - self._learnt_at >= _LEARN_EVERY_S:
            self._learn()
            self._quickest_s, self._learnt_at = float("inf"), moment

    def _learn(self) -> None:
        needed = max(_FEWEST_TURNS, ceil(self._quickest_s / _WORK_S))
        wanted = max(1, min(needed, self._most - self._long))
        self._slots.change(wanted - self._at_once)
        self._at_once = wanted


class _Turn:
    __slots__ = ("_began", "_priority", "_timer", "_turns", "_was_long")

    def __init__(self, turns: Turns, priority: Priority) -> None:
        self._turns, self._priority, self._was_long = turns, priority, False

    async def __aenter__(self) -> None:
        await self._turns.take(self._priority)
        self._began = time.monotonic()
        self._timer = asyncio.get_running_loop().call_later(_LONG_S, self._is_long)

    def _is_long(self) -> None:
        self._was_long = self._turns.is_long()

    async def __aexit__(self, *_: object) -> None:
        self._timer.cancel()
        self._turns.end(time.monotonic() - self._began, was_long=self._was_long)


class _Taken:
    """A slot that is held for a block; no generator, since it is entered for every request."""

    __slots__ = ("_priority", "_slots")

    def __init__(self, slots: Slots, priority: Priority) -> None:
        self._slots, self._priority = slots, priority

    async def __aenter__(self) -> None:
        await self._slots.take(self._priority)

    async def __aexit__(self, *_: object) -> None:
        self._slots.pass_on()


def _give_up(place: "asyncio.Future[None]") -> None:
    if not place.done():
        place.set_exception(TimeoutError())
