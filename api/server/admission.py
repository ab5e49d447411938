"""Admission control: bounds how many requests run at once, orders the rest by priority, gives each caller its turn, and
sheds load when the queue is too old.

Under overload a server that takes everybody serves nobody in time. A request that would wait longer than its kind is
worth is turned away at once, the least important first, so that threads do work that somebody still waits for.
"""

import asyncio
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Hashable, Iterator
from math import ceil
from typing import NamedTuple

from api.routing import Priority
from dues.errors import Unavailable

# How many seconds a caller's first request may have waited before its further ones of that kind are turned away.
_PATIENCE_S = {Priority.WRITE: 5.0, Priority.READ: 2.0, Priority.FEED: 1.0}
# Writes without end must not keep every read waiting until it is turned away.
_LONGEST_WAITING_EVERY = 4
# However fast the queue moves, no more than this may stand in it: each holds a request in memory. One caller may have a
# quarter of the places.
_LONGEST_QUEUE = {Priority.WRITE: 2000, Priority.READ: 1500, Priority.FEED: 500}
_CALLERS_SHARE = 4
# A statement that takes longer than this runs beside the others: a read by index takes a fiftieth of it.
_LONG_S = 0.02
# About how long the process itself takes for a read, waiting for a processor under load included.
_WORK_S = 0.0005
_FEWEST_TURNS = 2
_LEARN_EVERY_S = 1.0

Owners = tuple[Hashable, ...]


class _Place(NamedTuple):
    """Where a request waits. `owners` are those whose share of the slots it takes from."""

    since: float
    owners: Owners
    turn: "asyncio.Future[None]"


class _Queue:
    """The requests of one priority: each caller's in their order, callers in turn."""

    def __init__(self) -> None:
        self._callers: OrderedDict[Hashable, deque[_Place]] = OrderedDict()
        # When a caller was last served, and how long it had waited for its turn.
        self._served_at, self._waited_s = 0.0, 0.0
        self._turn_began: dict[Hashable, float] = {}
        self.length = 0

    def add(self, caller: Hashable, place: _Place) -> None:
        if not self.length:
            self._served_at, self._waited_s = place.since, 0.0
        if caller not in self._callers:
            self._callers[caller] = deque()
            self._turn_began[caller] = place.since
        self._callers[caller].append(place)
        self.length += 1

    def of(self, caller: Hashable) -> deque[_Place]:
        """What a caller has waiting."""
        return self._callers.get(caller) or deque()

    def waits(self, moment: float) -> float:
        """How long a newcomer would wait for its turn, at least, as far as can be told."""
        return max(moment - self._served_at, self._waited_s) if self.length else 0.0

    def first(self) -> Iterator[tuple[Hashable, _Place]]:
        """The first request of each caller, the callers in turn. One that gives up has yet to take itself out."""
        for caller, places in self._callers.items():
            if place := next((place for place in places if not place.turn.done()), None):
                yield caller, place

    def take(self, caller: Hashable, place: _Place, moment: float) -> None:
        """Take a caller's first request out; its next has to wait until the others have had a turn."""
        self._served_at, self._waited_s = moment, moment - self._turn_began[caller]
        self._turn_began[caller] = moment
        self._callers.move_to_end(caller)
        self.remove(caller, place)

    def remove(self, caller: Hashable, place: _Place) -> None:
        places = self._callers[caller]
        places.remove(place)
        self.length -= 1
        if not places:
            del self._callers[caller], self._turn_began[caller]


class AdmissionQueue:
    """For one event loop. `share` of the slots at most are taken at once for one owner (a caller, a store)."""

    def __init__(self, count: int, share: int | None = None) -> None:
        self._free = count
        self._owed = 0
        self._passed = 0
        self._share = share
        self._held: Counter[Hashable] = Counter()
        self._queues = {priority: _Queue() for priority in Priority}
        self.shed = 0

    @property
    def waiting(self) -> int:
        return sum(queue.length for queue in self._queues.values())

    def slot(self, priority: Priority, owners: Owners = ()) -> "_Slot":
        """`async with` it to hold a slot for the block; the first of `owners` is the caller, with whose requests it
        takes turns. Raises: Unavailable for a request that is turned away."""
        return _Slot(self, priority, owners)

    async def take(self, priority: Priority, owners: Owners = ()) -> None:
        """Wait for a slot, which is then held until `pass_on()`. Raises: Unavailable."""
        if self._free and not self.waiting and self._is_within_share(owners):
            self._grant(owners)
            return
        caller = owners[0] if owners else None
        queue, patience_s, longest = self._queues[priority], _PATIENCE_S[priority], _LONGEST_QUEUE[priority]
        mine, moment = queue.of(caller), time.monotonic()
        is_late = queue.waits(moment) > patience_s or (mine and moment - mine[0].since > patience_s)
        if is_late or queue.length >= longest or (owners and len(mine) >= longest // _CALLERS_SHARE):
            self._turn_away()
        loop = asyncio.get_running_loop()
        place = _Place(moment, owners, loop.create_future())
        queue.add(caller, place)
        # Twice the patience, because the more important pass those that already wait here.
        timer = loop.call_later(2 * patience_s, _give_up, place.turn)
        # There may be free slots, which those before have no more share in.
        self._hand_out()
        try:
            await place.turn
        except TimeoutError:
            queue.remove(caller, place)
            self._turn_away()
        except asyncio.CancelledError:
            if place.turn.cancelled():
                queue.remove(caller, place)
            elif place.turn.exception() is None:
                self.pass_on(owners)
            raise
        finally:
            timer.cancel()

    def _turn_away(self) -> None:
        self.shed += 1
        raise Unavailable("too many requests are waiting", code="overloaded", headers={"Retry-After": "2"})

    def pass_on(self, owners: Owners = ()) -> None:
        """Give up a slot that `owners` held."""
        for owner in owners:
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]
        if self._owed:
            self._owed -= 1
            return
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        """Give free slots to the first of the most important that wait and have not their share; every fourth to the
        one that has waited longest."""
        while self._free and (found := self._next()):
            queue, caller, place = found
            queue.take(caller, place, time.monotonic())
            self._passed += 1
            self._grant(place.owners)
            place.turn.set_result(None)

    def _next(self) -> tuple[_Queue, Hashable, _Place] | None:
        firsts = []
        for queue in self._queues.values():
            for caller, place in queue.first():
                if self._is_within_share(place.owners):
                    firsts.append((queue, caller, place))
                    break
            if firsts and (self._passed + 1) % _LONGEST_WAITING_EVERY:
                break
        return min(firsts, key=lambda found: found[2].since, default=None)

    def _is_within_share(self, owners: Owners) -> bool:
        return self._share is None or all(self._held[owner] < self._share for owner in owners)

    def _grant(self, owners: Owners) -> None:
        self._free -= 1
        for owner in owners:
            self._held[owner] += 1

    def change(self, by: int) -> None:
        """Have so many slots more, or fewer; those that are taken then are given up as they are passed on."""
        for _ in range(by):
            self.pass_on()
        for _ in range(-by):
            if self._free:
                self._free -= 1
            else:
                self._owed += 1


class AdaptiveLimit:
    """Bounds how many statements run at once: enough for an answer to be there whenever the process has dealt with the
    one before, which follows from how long the quickest takes. More would only compete for processors where PostgreSQL
    shares them with this process. A statement that takes long passes its turn on and runs beside the others, so that a
    few slow ones do not keep all others waiting. Never more than `most` run. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._at_once = min(_FEWEST_TURNS, most)
        self._long = 0
        self._slots = AdmissionQueue(self._at_once)
        self._quickest_s, self._learnt_at = float("inf"), time.monotonic()

    def turn(self, priority: Priority) -> "_Turn":
        """`async with` it to have a turn for the block. Raises: Unavailable where it is turned away."""
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

    def __init__(self, turns: AdaptiveLimit, priority: Priority) -> None:
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


class _Slot:
    """A slot that is held for a block; no generator, since it is entered for every request."""

    __slots__ = ("_owners", "_priority", "_queue")

    def __init__(self, queue: AdmissionQueue, priority: Priority, owners: Owners) -> None:
        self._queue, self._priority, self._owners = queue, priority, owners

    async def __aenter__(self) -> None:
        await self._queue.take(self._priority, self._owners)

    async def __aexit__(self, *_: object) -> None:
        self._queue.pass_on(self._owners)


def _give_up(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_exception(TimeoutError())
