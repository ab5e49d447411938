"""Whose turn it is: however much one store has asked for, another's job waits for one of its jobs at most."""

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dues.ids import new_id
from dues.jobs import Kind
from dues.jobs.kinds import QueueName
from dues.jobs.lease import Begun, begin
from dues.jobs.turns import _CLAIM_NEXT, Turns, _look, become_due, count_turns
from dues.postgres.connection import _numbered
from tests.factory import Factory
from tests.jobs.conftest import Jobs

SLOW = Kind("test.slow", "slow")
A, B, C = (UUID(int=number << 64) for number in (10, 20, 30))


@pytest.fixture(autouse=True)
def _no_trust(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each claim looks anew, so that nothing depends on how long a claim takes."""
    monkeypatch.setattr("dues.jobs.turns._TRUST_S", 0.0)
    monkeypatch.setattr("dues.jobs.turns._TRUST_TIMES", 0.0)


def put(make: Factory, store: UUID | None, count: int = 1, queue: QueueName = "default", **columns: object) -> None:
    for _ in range(count):
        make.insert("jobs", {"id": new_id(), "kind": "test.quick", "queue": queue, "store_id": store, **columns})


def served(turns: Turns, make: Factory, times: int) -> list[UUID | None]:
    """Whose jobs are claimed, one after the other; each ends before the next claim."""
    found = []
    for _ in range(times):
        begun = turns.claim("tester")
        if begun is None:
            break
        found.append(make.value("select store_id from jobs where id = %(id)s", {"id": begun[0].job_id}))
        begun[1].complete(None, None)
    return found


def test_a_newcomer_is_next_however_much_others_have_waiting(in_app: Flask, make: Factory):
    put(make, A, 50)
    turns = Turns("default")
    assert served(turns, make, 3) == [A] * 3
    put(make, B)
    assert served(turns, make, 3) == [B, A, A]


def test_stores_take_turns_whatever_their_priorities(in_app: Flask, make: Factory):
    put(make, A, 4, priority=1)
    put(make, B, 2, priority=200)
    put(make, C, 1)
    assert served(Turns("default"), make, 9) == [A, B, C, A, B, A, A]


def test_within_a_store_the_urgent_go_first_and_then_the_oldest(in_app: Flask, jobs: Jobs):
    later, sooner, urgent = jobs.add(store_id=A), jobs.add(store_id=A), jobs.add(store_id=A, priority=1)
    jobs.change(sooner, "run_at = now() - interval '1 minute'")
    jobs.change(urgent, "run_at = now() - interval '1 s'")
    turns = Turns("default")
    found = [turns.claim("tester") for _ in range(4)]
    assert [begun and begun[0].job_id for begun in found] == [urgent, sooner, later, None]


def test_what_belongs_to_no_store_goes_by_its_owner_or_is_one_of_them(in_app: Flask, make: Factory):
    put(make, None, 3)
    put(make, None, 3, owner_id=B)
    put(make, A, 3)
    turns = Turns("default")
    order = []
    while begun := turns.claim("tester"):
        whose = "select coalesce(store_id, owner_id) from jobs where id = %(id)s"
        order.append(make.value(whose, {"id": begun[0].job_id}))
    assert order == [A, B, None] * 3


@pytest.mark.parametrize(
    "change",
    [
        "due = false, run_at = now() - interval '1 s'",
        "run_at = now() + interval '1 minute'",
        "attempt = max_attempts",
        "cancel_requested_at = now()",
        "status = 'canceled', finished_at = now()",
        "queue = 'slow'",
    ],
)
def test_who_has_nothing_due_has_no_turn(in_app: Flask, jobs: Jobs, change: str):
    jobs.change(jobs.add(store_id=A), change)
    assert Turns("default").claim("tester") is None
    assert count_turns("default", 5) == 0


def test_a_job_whose_time_has_come_is_due_once_somebody_notices(in_app: Flask, jobs: Jobs):
    job_id = jobs.add(store_id=A, delay_s=60)
    assert become_due() == 0
    jobs.change(job_id, "run_at = now()")
    assert Turns("default").claim("tester") is None
    assert become_due() == 1
    assert Turns("default").claim("tester")


def test_those_that_become_due_are_taken_in_parts(in_app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dues.jobs.turns.MOST_BECOMING_DUE", 2)
    put(make, A, 5, due=False)
    assert [become_due() for _ in range(4)] == [2, 2, 1, 0]


class TestALimitOfAStore:
    def test_leaves_workers_for_others(self, in_app: Flask, make: Factory):
        put(make, A, 5, queue="slow")
        put(make, B, 2, queue="slow")
        turns = Turns("slow")
        first, second, third = (turns.claim("tester") for _ in range(3))
        assert first
        assert second
        assert third is None
        assert running(make) == {A: 1, B: 1}
        assert count_turns("slow", 9) == 0
        first[1].complete(None, None)
        assert count_turns("slow", 9) == 1
        assert turns.claim("tester")
        assert running(make) == {A: 1, B: 1}

    def test_holds_for_all_workers_together(self, in_app: Flask, make: Factory):
        put(make, A, 20, queue="webhooks")
        found = [Turns("webhooks").claim("tester") for _ in range(10)]
        assert len([begun for begun in found if begun]) == 8

    @pytest.mark.parametrize("trust_s", [0.0, 10.0])
    def test_is_the_smaller_the_fewer_threads_are_left(
        self, in_app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch, trust_s: float
    ):
        """Of 16 one store alone has eight; two whose jobs do not end have no more than eleven, and then a third still
        finds five, of which it leaves some to a fourth."""
        monkeypatch.setattr("dues.jobs.turns._TRUST_S", trust_s)
        turns, free = Turns("webhooks"), 16

        def fill(*stores: UUID) -> dict[UUID, int]:
            nonlocal free
            for store in stores:
                put(make, store, 20, queue="webhooks")
            while free and turns.claim("tester", free):
                free -= 1
            return running(make)

        assert fill(A) == {A: 8}
        assert fill(B) == {A: 8, B: 4}
        assert fill(C) == {A: 8, B: 4, C: 2}
        make.rows("update jobs set status = 'failed', finished_at = now(), lease_token = null, lease_until = null")
        free = 16
        assert sum(fill(A, B).values()) <= 11

    def test_is_none_for_mails_and_charges(self, in_app: Flask, make: Factory):
        put(make, A, 20)
        found = [Turns("default").claim("tester") for _ in range(20)]
        assert None not in found


def running(make: Factory) -> dict[UUID, int]:
    rows = make.rows("select store_id, count(*) from jobs where status = 'running' group by 1")
    return {row.store_id: row.count for row in rows}


@pytest.mark.parametrize("trust_s", [0.0, 10.0])
def test_of_many_workers_at_once_each_gets_another_job(
    in_app: Flask, make: Factory, trust_s: float, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dues.jobs.turns._TRUST_S", trust_s)
    for store in (A, B, C):
        put(make, store, 20)
    at_once = threading.Barrier(4)

    def work(number: int) -> list[UUID]:
        turns, found = Turns("default"), []
        with in_app.app_context():
            at_once.wait()
            while begun := turns.claim(f"worker {number}"):
                found.append(begun[0].job_id)
        return found

    with ThreadPoolExecutor(4) as threads:
        claimed = [job_id for found in threads.map(work, range(4)) for job_id in found]
    assert len(claimed) == len(set(claimed)) == 60


def test_turns_that_were_looked_up_hold_for_a_moment(in_app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch):
    looks = []

    def look(*asked: Any) -> Begun | None:
        looks.append(asked)
        return begin(*asked)

    monkeypatch.setattr("dues.jobs.turns._TRUST_S", 60.0)
    monkeypatch.setattr("dues.jobs.turns.begin", look)
    for store in (A, B):
        put(make, store, 5)
    turns = Turns("default")
    assert served(turns, make, 10) == [A, B] * 5
    assert len(looks) == 1
    # Others took what was looked up: there is another look.
    put(make, A, 5)
    assert turns.claim("tester")
    make.rows("update jobs set status = 'canceled', finished_at = now() where status = 'queued'")
    put(make, B)
    assert served(turns, make, 2) == [B]


@st.composite
def _arrivals(draw: st.DrawFn) -> list[tuple[int, int]]:
    """When (before which claim) jobs of which stores come."""
    return draw(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 5)), min_size=1, max_size=25))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrivals=_arrivals())
def test_nobody_who_waits_is_passed_twice(in_app: Flask, make: Factory, arrivals: list[tuple[int, int]]):
    make.rows("delete from jobs")
    stores = {number: UUID(int=number << 64) for number in range(1, 6)}
    turns, waiting = Turns("default"), Counter[UUID]()
    # Who had a turn since a store that waits began to wait, or had one.
    passed: dict[UUID, set[UUID]] = {}
    for step in range(40):
        for when, number in arrivals:
            if when == step:
                put(make, stores[number])
                waiting[stores[number]] += 1
        found = served(turns, make, 1)
        assert bool(found) == bool(+waiting)
        if not found:
            continue
        [store] = found
        assert store
        waiting[store] -= 1
        passed[store] = set()
        for other in stores.values():
            if not waiting[other]:
                passed[other] = set()
            elif other != store:
                assert store not in passed.setdefault(other, set()), f"{store} had two turns while {other} waited"
                passed[other].add(store)
    assert not +waiting


@pytest.fixture(params=[True, False], ids=["analyzed", "not analyzed"])
def crowded(fresh_tables: None, make: Factory, request: pytest.FixtureRequest) -> Iterator[None]:
    """One store has 20,000 jobs waiting, and 300 others have one each; whether or not the planner has heard of it."""
    put_many = (
        "insert into jobs(id, kind, queue, store_id) select gen_random_uuid(), 'test.quick', 'default', %(store)s"
        " from generate_series(1, 20000)"
    )
    make.rows(put_many, {"store": A})
    make.rows(
        "insert into jobs(id, kind, queue, store_id) select gen_random_uuid(), 'test.quick', 'default',"
        " gen_random_uuid() from generate_series(1, 300)"
    )
    if request.param:
        make.rows("analyze jobs")
    yield
    make.rows("truncate jobs")
    make.rows("analyze jobs")


@pytest.mark.usefixtures("crowded")
def test_a_look_reads_as_much_as_it_finds_and_not_what_waits(in_app: Flask, make: Factory):
    values = {**_look("default", A, 50), "token": new_id(), "lease_s": 1.0, "worker": "tester"}
    # As the sessions of Dues do; and as for a statement that is prepared.
    make.rows("set enable_seqscan = off; set plan_cache_mode = force_generic_plan")
    text, arguments = _numbered(_CLAIM_NEXT)
    make.rows(f"prepare look as {text.replace('%', '%%')}", {})
    [row] = make.rows(f"explain (analyze, buffers, format json) execute look{arguments}", values)
    make.rows("deallocate look; reset enable_seqscan; reset plan_cache_mode")
    plan = next(iter(vars(row).values()))[0]["Plan"]
    # Or that of a month.
    parts = make.rows(
        "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'jobs_turn_idx'::regclass"
    )
    assert any(f"'Index Name': '{name}'" in str(plan) for name in ("jobs_turn_idx", *(part.name for part in parts)))
    assert "Seq Scan" not in str(plan)
    # 50 stores, each found by going down an index and fetching a row, twice.
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 1500
