"""Circuit breakers: what fails is left alone, asked once in a while, and trusted again when it answers."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from dues import breaker
from dues.breaker import (
    WEBHOOKS,
    Circuit,
    WebhookCircuits,
    release_waiting,
    reset_circuit,
    troubled_circuits,
    waiting_jobs,
    webhook_circuits,
)
from dues.jobs.admin import retry
from dues.jobs.service import cancel
from dues.jobs.turns import become_due
from dues.postgres import transaction
from dues.postgres.connection import _numbered
from dues.postgres.statement_stats import counting_statements
from tests.factory import Factory
from tests.jobs.conftest import Jobs, in_app, jobs
from tests.servers import wait_until

__all__ = ["in_app", "jobs"]

NAME = "gateway:sandbox"


@pytest.fixture(autouse=True)
def context(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test begins with a process that knows of no circuit."""
    monkeypatch.setattr(breaker, "_trusted_until", {})
    with app.app_context():
        yield


def circuit(**options: float) -> Circuit:
    return Circuit(NAME, threshold=3, **{"first_s": 60.0, "longest_s": 200.0, **options})


def fail(times: int, **options: float) -> None:
    for _ in range(times):
        circuit(**options).failed()


def rested(make: Factory) -> None:
    """Its time alone is over."""
    make.rows("update circuit_breakers set open_until = now() - interval '1 ms'")


def test_what_works_costs_a_look_now_and_then_and_no_row(make: Factory):
    with counting_statements() as seen:
        for _ in range(10):
            way = circuit()
            assert way.wait_s() == 0
            way.succeeded()
    assert seen.count == 1
    assert make.rows("select 1 from circuit_breakers") == []


def test_it_opens_when_enough_calls_in_a_row_have_failed():
    fail(2)
    assert circuit().wait_s() == 0
    fail(1)
    assert 55 < circuit().wait_s() <= 60


def test_a_success_in_between_begins_the_count_anew():
    fail(2)
    way = circuit()
    assert way.wait_s() == 0
    way.succeeded()
    fail(2)
    assert circuit().wait_s() == 0


def test_after_its_rest_exactly_one_call_is_let_through(app: Flask, make: Factory):
    fail(3)
    rested(make)

    def ask(_: int) -> float:
        with app.app_context():
            return circuit().wait_s()

    with ThreadPoolExecutor(8) as pool:
        waits = list(pool.map(ask, range(16)))
        # One that asks at the same moment may see the rest as just over, and is to ask again.
        again = list(pool.map(ask, range(16)))
    assert waits.count(0) == 1
    assert again == [pytest.approx(60, abs=10)] * 16


def test_a_probe_that_succeeds_closes_it(make: Factory):
    fail(3)
    rested(make)
    probe = circuit()
    assert probe.wait_s() == 0
    probe.succeeded()
    assert circuit().wait_s() == 0
    assert troubled_circuits() == []


def test_what_is_noted_in_a_transaction_outlives_it():
    with pytest.raises(ZeroDivisionError), transaction():
        _fail_and_break()
    assert circuit().wait_s() > 0


def _fail_and_break() -> None:
    fail(3)
    raise ZeroDivisionError


def test_what_another_process_has_found_out_is_known_within_a_second(monkeypatch: pytest.MonkeyPatch):
    assert circuit().wait_s() == 0
    trusted = dict(breaker._trusted_until)
    fail(3)
    monkeypatch.setattr(breaker, "_trusted_until", trusted)
    assert circuit().wait_s() == 0
    wait_until(lambda: circuit().wait_s() > 0, 3)


def test_nothing_fails_for_its_sake(make: Factory, monkeypatch: pytest.MonkeyPatch):
    fail(3)
    way = circuit()
    monkeypatch.setattr(breaker, "_ASK", "select 1 / 0")
    monkeypatch.setattr(breaker, "_FAILED", "select 1 / 0")
    assert way.wait_s() == 0
    way.failed()


def test_each_failed_probe_doubles_the_rest_up_to_a_bound(make: Factory):
    fail(3)
    rests = []
    for _ in range(3):
        rested(make)
        probe = circuit()
        assert probe.wait_s() == 0
        probe.failed()
        rests.append(circuit().wait_s())
    assert rests == [pytest.approx(120, abs=5), pytest.approx(200, abs=5), pytest.approx(200, abs=5)]


def test_a_probe_that_never_comes_back_makes_room_for_another(make: Factory):
    fail(3)
    rested(make)
    assert circuit(probe_s=0.5).wait_s() == 0
    assert circuit().wait_s() > 0
    started = time.monotonic()
    wait_until(lambda: circuit().wait_s() == 0)
    assert time.monotonic() - started < 5


def test_failures_of_another_day_do_not_count(make: Factory):
    fail(2)
    make.rows("update circuit_breakers set updated_at = now() - interval '25 hours'")
    assert troubled_circuits() == []
    fail(1)
    assert [state.failures for state in troubled_circuits()] == [1]
    assert circuit().wait_s() == 0


def test_metrics_show_what_has_failed(client):
    fail(3)
    text = client.get("/metrics").text
    assert f'dues_circuit_open{{circuit="{NAME}"}} 1.0' in text
    assert f'dues_circuit_failures{{circuit="{NAME}"}} 3.0' in text


def test_circuits_of_webhook_endpoints_are_counted_and_not_named(client):
    fail(3)
    for name, times in (("one", 3), ("two", 1), ("three", 3)):
        for _ in range(times):
            Circuit(WEBHOOKS + name, threshold=3).failed()
    assert webhook_circuits() == WebhookCircuits(failing=3, open=2)
    assert [state.name for state in troubled_circuits()] == [NAME]
    text = client.get("/metrics").text
    assert WEBHOOKS not in text
    assert "dues_webhook_endpoints_failing 3.0" in text
    assert "dues_webhook_endpoints_left_alone 2.0" in text


def test_those_of_webhook_endpoints_drive_none_out_of_the_metrics(make: Factory):
    fail(3)
    make.rows(
        "insert into circuit_breakers(name, failures, updated_at) select 'webhook:' || i, 1, clock_timestamp()"
        " from generate_series(1, 300) i"
    )
    assert [state.name for state in troubled_circuits()] == [NAME]


def test_a_circuit_that_leads_elsewhere_now_begins_anew():
    fail(3)
    with transaction():
        reset_circuit(NAME)
    assert circuit().wait_s() == 0
    assert troubled_circuits() == []


def wait_for(jobs: Jobs, *names: str) -> list[UUID]:
    """Jobs whose handlers have found the named circuits open."""
    found = []
    for name in names:
        claim, lease = jobs.claimed()
        assert lease.give_back(uncharged=True, waits_for=name) == "queued"
        found.append(claim.job_id)
    return found


def due(make: Factory) -> list[UUID]:
    found = make.rows("select id from jobs where status = 'queued' and due and run_at <= now() and waits_for is null")
    return sorted(row.id for row in found)


@pytest.mark.parametrize(
    ("standing", "released"),
    [
        ("now() + interval '1 hour'", 0),
        ("now() - interval '1 ms'", 1),
        # It has failed since, but not often enough to be open.
        ("null", 3),
        (None, 3),
    ],
    ids=["open", "its rest is over", "closed, with failures", "closed"],
)
def test_jobs_wait_until_their_circuit_lets_calls_through(
    standing: str | None, released: int, jobs: Jobs, make: Factory
):
    waiting = wait_for(jobs, NAME, NAME, NAME)
    if standing:
        make.rows(f"insert into circuit_breakers values ('{NAME}', 5, {standing}, now())")
    assert waiting_jobs().startswith("jobs that wait for a circuit to close: 3")
    assert [jobs.row(job_id).attempt for job_id in waiting] == [0, 0, 0]
    assert release_waiting() == released
    assert due(make) == waiting[:released]


def test_each_waits_for_its_own_circuit(jobs: Jobs, make: Factory):
    waiting = wait_for(jobs, "smtp:a", "gateway:b", "files", "gateway:b")
    for name in ("smtp:a", "files"):
        make.rows(f"insert into circuit_breakers values ('{name}', 5, now() + interval '1 hour', now())")
    assert release_waiting() == 2
    assert due(make) == sorted([waiting[1], waiting[3]])


def test_many_are_released_some_at_a_time_the_oldest_first(jobs: Jobs, make: Factory, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(breaker, "MOST_RELEASED", 2)
    waiting = wait_for(jobs, NAME, NAME, NAME)
    assert (release_waiting(), due(make)) == (2, waiting[:2])
    assert (release_waiting(), due(make)) == (1, waiting)
    assert release_waiting() == 0


@pytest.mark.parametrize(
    ("change", "status", "is_due"),
    [
        (lambda jobs, job_id: cancel(job_id), "canceled", False),
        (lambda jobs, job_id: retry(job_id), "queued", True),
        # Nobody has noticed that the circuit has closed.
        (lambda jobs, job_id: jobs.change(job_id, "run_at = now()"), "queued", True),
    ],
    ids=["canceled", "an operator has it tried", "it has waited long"],
)
def test_what_else_ends_the_waiting(
    change: Callable[[Jobs, UUID], object], status: str, is_due: bool, jobs: Jobs, make: Factory
):
    make.rows(f"insert into circuit_breakers values ('{NAME}', 5, now() + interval '1 hour', now())")
    [job_id] = wait_for(jobs, NAME)
    with transaction():
        change(jobs, job_id)
    become_due()
    assert (jobs.row(job_id).status, due(make)) == (status, [job_id] if is_due else [])
    make.rows("delete from circuit_breakers")
    assert release_waiting() == 0


@pytest.mark.usefixtures("fresh_tables")
@pytest.mark.parametrize("is_analyzed", [True, False])
@pytest.mark.parametrize(
    ("sql", "values", "blocks"),
    [(breaker._READY, {"most": 10}, 200), (breaker._RELEASE, {"name": NAME, "most": 10}, 500)],
    ids=["ready", "release"],
)
def test_a_look_reads_as_much_as_it_changes_and_not_what_waits(
    sql: str, values: dict[str, Any], blocks: int, is_analyzed: bool, make: Factory
):
    make.rows(
        "insert into jobs(id, kind, queue, args, due, run_at, waits_for) select gen_random_uuid(), 'test.quick',"
        f" 'default', '{{}}', false, now(), case when n <= 5000 then '{NAME}' else 'gateway:' || n end"
        " from generate_series(1, 5020) n"
    )
    if is_analyzed:
        make.rows("analyze jobs")
    make.rows("set enable_seqscan = off; set plan_cache_mode = force_generic_plan")
    text, arguments = _numbered(sql)
    make.rows(f"prepare look as {text.replace('%', '%%')}", {})
    [row] = make.rows(f"explain (analyze, buffers, format json) execute look{arguments}", values)
    make.rows("deallocate look; reset enable_seqscan; reset plan_cache_mode")
    plan = next(iter(vars(row).values()))[0]["Plan"]
    assert "'Seq Scan'" not in str(plan)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < blocks
