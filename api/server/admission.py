"""Admission control: bounds how many requests run at once, orders the rest by priority, gives each caller its turn, and
sheds load when the queue is too old.

Under overload a server that takes everybody serves nobody in time. A request that would wait longer than its kind is
worth is turned away at once, the least important first, so that threads do work that somebody still waits for.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Hashable, Sequence
from math import ceil
from operator import itemgetter
from typing import NamedTuple
from uuid import UUID

from api.request import Request
from api.routing import Priority
from dues.errors import Unavailable
from dues.stores.access import Access

# How many seconds a caller's first request may have waited before its further ones of that kind are turned away.
_PATIENCE_S = {Priority.WRITE: 5.0, Priority.READ: 2.0, Priority.HELD: 1.0}
# Writes without end must not keep every read waiting until it is turned away.
_LONGEST_WAITING_EVERY = 4
# However fast the queue moves, no more than this may stand in it: each holds a request in memory. One caller may have a
# quarter of the places.
_LONGEST_QUEUE = {Priority.WRITE: 2000, Priority.READ: 1500, Priority.HELD: 500}
_CALLERS_SHARE = 4
# A statement that takes longer than this runs beside the others: a read by index takes a fiftieth of it.
_LONG_S = 0.02
# About how long the process itself takes for a read, waiting for a processor under load included.
_WORK_S = 0.0005
_FEWEST_TURNS = 2
_LEARN_EVERY_S = 1.0

Owners = tuple[Hashable, ...]


def owners_of(request: Request, access: Access | None, store_id: UUID | None) -> Owners:
    """Whose share of the threads a request takes from: its caller's, as far as that is known, and its store's."""
    # The number of a UUID is looked up far faster than the UUID is.
    caller = access.actor.user_id.int if access and access.actor else request.address
    return (caller, store_id.int) if store_id else (caller,)


class _Place(NamedTuple):
    """Where a request waits. `owners` are those whose share of the slots it takes from."""

    since: float
    owners: Owners
    turn: "asyncio.Future[None]"


class _Places(NamedTuple):
    """Where one caller's requests wait, in their order, and since when the caller has waited for its turn."""

    since: float
    waiting: deque[_Place]


class _Queue:
    """The requests of one priority: each caller's in their order, callers in turn."""

    def __init__(self) -> None:
        self.callers: OrderedDict[Hashable, _Places] = OrderedDict()
        # When a caller was last served, and how long it had waited for its turn.
        self._served_at, self._waited_s = 0.0, 0.0
        self.length = 0

    def add(self, caller: Hashable, place: _Place) -> None:
        if not self.length:
            self._served_at, self._waited_s = place.since, 0.0
        if caller not in self.callers:
            self.callers[caller] = _Places(place.since, deque())
        self.callers[caller].waiting.append(place)
        self.length += 1

    def of(self, caller: Hashable) -> Sequence[_Place]:
        """What a caller has waiting."""
        places = self.callers.get(caller)
        return places.waiting if places else ()

    def waits(self, moment: float) -> float:
        """How long a newcomer would wait for its turn, at least, as far as can be told."""
        return max(moment - self._served_at, self._waited_s) if self.length else 0.0

    def take(self, caller: Hashable, place: _Place, moment: float) -> None:
        """Take a request of a caller out; its next has to wait until the others have had a turn."""
        places = self.callers.pop(caller)
        self._served_at, self._waited_s = moment, moment - places.since
        self.callers[caller] = _Places(moment, places.waiting)
        self.remove(caller, place)

    def remove(self, caller: Hashable, place: _Place) -> None:
        waiting = self.callers[caller].waiting
        waiting.remove(place)
        self.length -= 1
        if not waiting:
            del self.callers[caller]


class AdmissionQueue:
    """For one event loop. `share` of the slots at most are taken at once for one owner (a caller, a store).

    While a slot is free, all requests that wait are of owners that have their share. So a newcomer of others need not
    ask who else waits, and a slot that is given up is of use only to those who shared in it.
    """

    def __init__(self, count: int, share: int | None = None) -> None:
        self._free = count
        self._owed = 0
        self._passed = 0
        self._share = count if share is None else share
        # How many slots an owner has, and for how many it waits.
        self._held: dict[Hashable, int] = {}
        self._wanted: dict[Hashable, int] = {}
        self._queues = {priority: _Queue() for priority in Priority}
        self.waiting = 0
        self.shed = 0

    def slot(self, priority: Priority, owners: Owners = ()) -> "_Slot":
        """`async with` it to hold a slot for the block; the first of `owners` is the caller, with whose requests it
        takes turns. Raises: Unavailable for a request that is turned away."""
        return _Slot(self, priority, owners)

    async def take(self, priority: Priority, owners: Owners = ()) -> None:
        """Wait for a slot, which is then held until `pass_on()`. Raises: Unavailable."""
        if self._free and self._is_within_share(owners):
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
        self._wait(owners, 1)
        # Twice the patience, because the more important pass those that already wait here.
        timer = loop.call_later(2 * patience_s, _give_up, place.turn)
        try:
            await place.turn
        except TimeoutError:
            queue.remove(caller, place)
            self._wait(owners, -1)
            self._turn_away()
        except asyncio.CancelledError:
            # In the turn of the loop in which it leaves it may have been given a slot, or told that its time is over.
            if place.turn.cancelled() or place.turn.exception():
                queue.remove(caller, place)
                self._wait(owners, -1)
            else:
                self.pass_on(owners)
            raise
        finally:
            timer.cancel()

    def _turn_away(self) -> None:
        self.shed += 1
        raise Unavailable("too many requests are waiting", code="overloaded", headers={"Retry-After": "2"})

    def _wait(self, owners: Owners, by: int) -> None:
        self.waiting += by
        _add(self._wanted, owners, by)

    def pass_on(self, owners: Owners = ()) -> None:
        """Give up a slot that `owners` held."""
        _add(self._held, owners, -1)
        if self._owed:
            self._owed -= 1
            return
        self._free += 1
        if self._free == 1:
            if self.waiting:
                self._hand_out()
            return
        while self._free and any(owner in self._wanted and self._has_room(owner) for owner in owners):
            if not self._hand_out():
                return

    def _hand_out(self) -> bool:
        """Give a free slot to the first of the most important that wait and have not their share; every fourth to the
        one that has waited longest. False where there is none."""
        firsts = []
        takes_the_longest_waiting = (self._passed + 1) % _LONGEST_WAITING_EVERY == 0
        for queue in self._queues.values():
            if first := self._first(queue):
                firsts.append(first)
            if firsts and not takes_the_longest_waiting:
                break
        if not firsts:
            return False
        _, queue, caller, place = min(firsts, key=itemgetter(0))
        queue.take(caller, place, time.monotonic())
        self._passed += 1
        self._wait(place.owners, -1)
        self._grant(place.owners)
        place.turn.set_result(None)
        return True

    def _first(self, queue: _Queue) -> tuple[float, _Queue, Hashable, _Place] | None:
        """The first request in a queue that may have a slot, and since when it waits."""
        for caller, places in queue.callers.items():
            if self._has_room(caller):
                for place in places.waiting:
                    # One whose client has gone has yet to take itself out.
                    if self._is_within_share(place.owners) and not place.turn.done():
                        return place.since, queue, caller, place
        return None

    def _has_room(self, owner: Hashable) -> bool:
        return self._held.get(owner, 0) < self._share

    def _is_within_share(self, owners: Owners) -> bool:
        return all(map(self._has_room, owners))

    def _grant(self, owners: Owners) -> None:
        self._free -= 1
        _add(self._held, owners, 1)

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


def _add(counts: dict[Hashable, int], owners: Owners, by: int) -> None:
    """Those that come to nothing are dropped, since owners are without end."""
    for owner in owners:
        if count := counts.get(owner, 0) + by:
            counts[owner] = count
        else:
            del counts[owner]


def _give_up(turn: "asyncio.Future[None]") -> None:
    if not turn.done():
        turn.set_exception(TimeoutError())
