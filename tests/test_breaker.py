"""Circuit breakers: what fails is left alone, asked once in a while, and trusted again when it answers."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from dues import breaker
from dues.breaker import WEBHOOKS, Circuit, WebhookCircuits, reset_circuit, troubled_circuits, webhook_circuits
from dues.postgres import transaction
from dues.postgres.statement_stats import counting_statements
from tests.factory import Factory
from tests.servers import wait_until

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
    assert sorted(waits)[:2] == [0, pytest.approx(60, abs=10)]


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
    assert circuit(probe_s=0.05).wait_s() == 0
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
