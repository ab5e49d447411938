"""Who goes to Flask next, and who is turned away."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest

from api.routing import Priority
from api.server import admission
from api.server.admission import AdaptiveLimit, AdmissionQueue
from dues.errors import Unavailable

pytestmark = pytest.mark.unit


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(scenario(), 10))


async def hold(line: AdmissionQueue, priority: Priority, order: list[str], name: str, until: asyncio.Event) -> None:
    async with line.slot(priority):
        order.append(name)
        await until.wait()


def test_never_more_at_once_than_there_are_slots():
    async def scenario() -> None:
        line, at_once, most = AdmissionQueue(3), 0, 0

        async def visit() -> None:
            nonlocal at_once, most
            async with line.slot(Priority.READ):
                at_once += 1
                most = max(most, at_once)
                await asyncio.sleep(0)
                at_once -= 1

        await asyncio.gather(*(visit() for _ in range(50)))
        assert most == 3
        assert line.waiting == 0

    run(scenario)


def test_writes_pass_reads_and_reads_pass_feeds():
    async def scenario() -> None:
        line, order, done = AdmissionQueue(1), list[str](), asyncio.Event()
        first = asyncio.create_task(hold(line, Priority.HELD, order, "first", done))
        await asyncio.sleep(0)
        others = [
            asyncio.create_task(hold(line, priority, order, priority.name, done))
            for priority in (Priority.HELD, Priority.READ, Priority.WRITE)
        ]
        await asyncio.sleep(0)
        done.set()
        await asyncio.gather(first, *others)
        assert order == ["first", "WRITE", "READ", "HELD"]

    run(scenario)


def test_writes_without_end_leave_a_share_to_reads():
    async def scenario() -> None:
        line, order, done = AdmissionQueue(1), list[str](), asyncio.Event()
        done.set()
        await line.take(Priority.WRITE)
        visits = [asyncio.create_task(hold(line, Priority.READ, order, "READ", done)) for _ in range(3)]
        await asyncio.sleep(0)
        visits += [asyncio.create_task(hold(line, Priority.WRITE, order, "WRITE", done)) for _ in range(12)]
        await asyncio.sleep(0)
        line.pass_on()
        await asyncio.gather(*visits)
        assert order[:12].count("READ") == 3
        assert order[:3] == ["WRITE"] * 3

    run(scenario)


def test_who_would_wait_too_long_is_told_so_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "_PATIENCE_S", {Priority.WRITE: 60, Priority.READ: 0.0, Priority.HELD: 0.0})

    async def scenario() -> None:
        line, done = AdmissionQueue(1), asyncio.Event()
        holder = asyncio.create_task(hold(line, Priority.READ, [], "", done))
        await asyncio.sleep(0)
        # Without patience the first in line gives up at once, and newcomers of its kind are not let in.
        with pytest.raises(Unavailable) as refused:
            async with line.slot(Priority.READ):
                pass
        assert refused.value.code == "overloaded"
        assert refused.value.headers["Retry-After"]
        writer = asyncio.create_task(hold(line, Priority.WRITE, order := list[str](), "write", done))
        await asyncio.sleep(0)
        done.set()
        await asyncio.gather(holder, writer)
        assert order == ["write"]
        assert line.shed == 1

    run(scenario)


def test_a_line_has_an_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "_LONGEST_QUEUE", dict.fromkeys(Priority, 2))

    async def scenario() -> None:
        line, done = AdmissionQueue(1), asyncio.Event()
        visits = [asyncio.create_task(hold(line, Priority.READ, [], "", done)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            async with line.slot(Priority.READ):
                pass
        done.set()
        await asyncio.gather(*visits)

    run(scenario)


async def hold_as(
    line: AdmissionQueue, owners: tuple[str, ...], order: list[str], name: str, until: asyncio.Event
) -> None:
    async with line.slot(Priority.WRITE, owners):
        order.append(name)
        await until.wait()


@pytest.mark.parametrize("owners", [("greedy",), ("somebody", "store")], ids=["a caller", "a store"])
def test_nobody_has_more_than_a_share_of_the_slots(owners: tuple[str, ...]):
    async def scenario() -> None:
        line, order, done = AdmissionQueue(4, share=3), list[str](), asyncio.Event()
        many = [asyncio.create_task(hold_as(line, owners, order, "greedy", done)) for _ in range(10)]
        await asyncio.sleep(0)
        assert order == ["greedy"] * 3
        # The last slot is another's, however many wait before.
        other = asyncio.create_task(hold_as(line, ("other",), order, "other", done))
        await asyncio.sleep(0)
        assert order == ["greedy"] * 3 + ["other"]
        done.set()
        await asyncio.gather(*many, other)
        assert len(order) == 11
        assert line.waiting == 0
        # All is given back.
        done.clear()
        order.clear()
        again = [asyncio.create_task(hold_as(line, owners, order, "greedy", done)) for _ in range(4)]
        await asyncio.sleep(0)
        assert order == ["greedy"] * 3
        done.set()
        await asyncio.gather(*again)

    run(scenario)


@dataclass(eq=False)
class Visit:
    """A request that waits for a slot, and holds it until it is told to end."""

    owners: tuple[str, ...]
    end: asyncio.Event = field(default_factory=asyncio.Event)
    has_a_slot: bool = False

    async def go(self, line: AdmissionQueue, priority: Priority) -> None:
        async with line.slot(priority, self.owners):
            self.has_a_slot = True
            await self.end.wait()


@pytest.mark.parametrize("seed", range(20))
def test_whoever_may_have_a_slot_has_it(seed: int):
    """Callers of several stores come, go and give up as they like."""

    async def scenario() -> None:
        chance, line = random.Random(seed), AdmissionQueue(4, share=3)
        visits: dict[asyncio.Task[None], Visit] = {}
        for _ in range(200):
            if chance.random() < 0.55 or not visits:
                visit = Visit((chance.choice("abc"), *chance.choice([(), ("shop",), ("stall",)])))
                visits[asyncio.create_task(visit.go(line, chance.choice(list(Priority))))] = visit
            elif chance.random() < 0.3:
                chance.choice(list(visits)).cancel()
            else:
                chance.choice(list(visits.values())).end.set()
            # A slot that is given up is taken within a few turns of the loop, and may be given up again at once.
            for _ in range(20):
                await asyncio.sleep(0)
            visits = {task: visit for task, visit in visits.items() if not task.done()}
            held = Counter(owner for visit in visits.values() if visit.has_a_slot for owner in visit.owners)
            waiting = [visit.owners for visit in visits.values() if not visit.has_a_slot]
            taken = len(visits) - len(waiting)
            assert taken <= 4
            assert max(held.values(), default=0) <= 3
            assert line.waiting == len(waiting)
            if taken < 4:
                assert [owners for owners in waiting if all(held[owner] < 3 for owner in owners)] == []
        for visit in visits.values():
            visit.end.set()
        await asyncio.gather(*visits)
        assert line.waiting == 0

    run(scenario)


def test_callers_take_turns():
    async def scenario() -> None:
        line, order, done = AdmissionQueue(1), list[str](), asyncio.Event()
        holder = asyncio.create_task(hold_as(line, ("a",), [], "", done))
        await asyncio.sleep(0)
        visits = [asyncio.create_task(hold_as(line, ("a",), order, "a", done)) for _ in range(8)]
        await asyncio.sleep(0)
        visits.append(asyncio.create_task(hold_as(line, ("b",), order, "b", done)))
        await asyncio.sleep(0)
        done.set()
        await asyncio.gather(holder, *visits)
        assert order.index("b") <= 1
        assert order.count("a") == 8

    run(scenario)


def test_a_client_that_goes_away_gives_its_place_to_the_next():
    async def scenario() -> None:
        line, order, done = AdmissionQueue(1), list[str](), asyncio.Event()
        holder = asyncio.create_task(hold(line, Priority.READ, order, "holder", done))
        await asyncio.sleep(0)
        gone = asyncio.create_task(hold(line, Priority.READ, order, "gone", done))
        last = asyncio.create_task(hold(line, Priority.READ, order, "last", done))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        done.set()
        await asyncio.gather(holder, last)
        assert order == ["holder", "last"]
        async with line.slot(Priority.READ):
            pass

    run(scenario)


def test_one_that_goes_away_in_the_moment_when_its_time_is_over_waits_no_more(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "_PATIENCE_S", dict.fromkeys(Priority, 0.0))

    async def scenario() -> None:
        line, done = AdmissionQueue(1), asyncio.Event()
        holder = asyncio.create_task(hold(line, Priority.READ, [], "holder", done))
        await asyncio.sleep(0)
        gone = asyncio.create_task(hold(line, Priority.READ, [], "gone", done))
        await asyncio.sleep(0)
        # The timer of its patience comes before this one, in the same turn of the loop.
        asyncio.get_running_loop().call_later(0, gone.cancel)
        with pytest.raises(asyncio.CancelledError):
            await gone
        assert line.waiting == 0
        done.set()
        await holder

    run(scenario)


def test_a_turn_that_takes_long_is_passed_on_while_few_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(admission, "_LONG_S", 0.01)

    async def scenario() -> None:
        turns, order, done = AdaptiveLimit(3), list[str](), asyncio.Event()

        async def hold_turn(name: str) -> None:
            async with turns.turn(Priority.READ):
                order.append(name)
                await done.wait()

        # Two at once, and one beside them that takes long, but no more.
        tasks = [asyncio.create_task(hold_turn(name)) for name in "abcde"]
        await asyncio.sleep(0)
        assert order == ["a", "b"]
        await asyncio.sleep(0.2)
        assert order == ["a", "b", "c"]
        done.set()
        await asyncio.gather(*tasks)
        assert order == ["a", "b", "c", "d", "e"]
        # All is as it was.
        done.clear()
        order.clear()
        tasks = [asyncio.create_task(hold_turn(name)) for name in "fghij"]
        await asyncio.sleep(0)
        assert order == ["f", "g"]
        await asyncio.sleep(0.2)
        assert order == ["f", "g", "h"]
        done.set()
        await asyncio.gather(*tasks)

    run(scenario)


@pytest.mark.parametrize(("seconds", "at_once"), [(0.0001, 2), (0.0008, 2), (0.002, 4), (1.0, 10)])
def test_as_many_turns_as_the_quickest_statement_needs(monkeypatch: pytest.MonkeyPatch, seconds: float, at_once: int):
    monkeypatch.setattr(admission, "_LEARN_EVERY_S", 0.0)

    async def scenario() -> None:
        turns, most, running = AdaptiveLimit(10), 0, 0

        async def hold_turn() -> None:
            nonlocal most, running
            async with turns.turn(Priority.READ):
                running += 1
                most = max(most, running)
                await asyncio.sleep(0)
                running -= 1

        for measured in (1.0, seconds):
            # However many there were before.
            await turns.take(Priority.READ)
            turns.end(measured, was_long=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(admission, "_LEARN_EVERY_S", 60.0)
            await asyncio.gather(*(hold_turn() for _ in range(50)))
        assert most == at_once

    run(scenario)


def test_slots_that_are_taken_away_while_they_are_held_are_not_passed_on():
    async def scenario() -> None:
        line, order, done = AdmissionQueue(3), list[str](), asyncio.Event()
        tasks = [asyncio.create_task(hold(line, Priority.READ, order, name, done)) for name in "abcd"]
        await asyncio.sleep(0)
        line.change(-2)
        assert order == ["a", "b", "c"]
        done.set()
        await asyncio.gather(*tasks)
        assert order == ["a", "b", "c", "d"]
        done.clear()
        tasks = [asyncio.create_task(hold(line, Priority.READ, order, name, done)) for name in "ef"]
        await asyncio.sleep(0)
        assert order[4:] == ["e"], "one is left"
        line.change(1)
        await asyncio.sleep(0)
        assert order[4:] == ["e", "f"]
        done.set()
        await asyncio.gather(*tasks)

    run(scenario)
