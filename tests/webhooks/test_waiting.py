"""Deliveries that wait for an endpoint which is left alone: they cost next to nothing, and none is lost."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import SimpleNamespace as Row
from typing import Any
from uuid import UUID

import pytest

from dues.jobs.turns import Turns
from dues.postgres import transaction
from dues.postgres.connection import _numbered
from dues.webhooks import waiting
from dues.webhooks.waiting import put_off, release
from tests.factory import Factory
from tests.webhooks.hooks import Hooks

_CROWD = """
    with ids as (
        select n, gen_random_uuid() as event,
            (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000000')::uuid as delivery,
            (lpad(to_hex(n), 8, '0') || '-0000-7000-8000-000000000001')::uuid as job
        from generate_series(1, %(count)s) n),
    told as (
        insert into events(store_id, seq, id, type, data, created_at)
        select %(store)s, n, event, 'package.created', '{}', now() from ids),
    counted as (update event_streams set last_seq = %(count)s where store_id = %(store)s),
    wanted as (
        insert into jobs(id, kind, queue, args, store_id, max_attempts)
        select job, 'webhook.deliver', 'webhooks',
            jsonb_build_object('store_id', %(store)s::text, 'delivery_id', delivery), %(store)s, 10 from ids)
    insert into webhook_deliveries(store_id, id, endpoint_id, seq, event_id, event_type, next_attempt_at, asked_by,
        job_id)
    select %(store)s, delivery, %(endpoint)s, n, event, 'package.created', now(), job, job from ids
"""
_OPEN = """
    insert into circuit_breakers(name, failures, open_until, updated_at)
    values ('webhook:' || %(endpoint)s, 5, now() + interval '1 hour', now())
"""
_WAITING = "select count(*) from webhook_deliveries where status = 'pending' and next_attempt_at is null"
_DUE = "select count(*) from jobs where kind = 'webhook.deliver' and status = 'queued' and due"


def crowd(make: Factory, store_id: UUID, endpoint_id: UUID, count: int) -> None:
    """So many events, of which nothing has been delivered to the endpoint yet."""
    make.rows(_CROWD, {"store": store_id, "endpoint": endpoint_id, "count": count})


class Silent:
    """An endpoint that does not answer, with `count` deliveries due to it."""

    def __init__(self, hooks: Hooks, count: int) -> None:
        self.hooks, self.make, self.count = hooks, hooks.make, count
        self.endpoint = hooks.register()
        self.id = UUID(self.endpoint["id"])
        crowd(self.make, hooks.store.id, self.id, count)
        self.make.rows(_OPEN, {"endpoint": self.endpoint["id"]})

    def rest_is_over(self) -> None:
        self.make.rows("update circuit_breakers set open_until = now()")

    def change(self, body: dict[str, Any]) -> None:
        assert self.hooks.send("PATCH", f"/webhook-endpoints/{self.id}", body).status_code == 200


@pytest.fixture
def claims(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """The jobs that were claimed."""
    found: list[UUID] = []
    claim = Turns.claim

    def noted(self: Turns, *args: Any) -> Any:
        if begun := claim(self, *args):
            found.append(begun[0].job_id)
        return begun

    monkeypatch.setattr(Turns, "claim", noted)
    return found


@pytest.mark.parametrize("count", [1200, pytest.param(20_000, marks=pytest.mark.slow)])
def test_many_that_wait_are_put_off_in_few_statements(count: int, hooks: Hooks, make: Factory, claims: list[UUID]):
    silent = Silent(hooks, count)
    hooks.work.drain()
    assert make.value(_WAITING) == count
    assert len(claims) <= count / waiting.MOST_PUT_OFF + 1
    claims.clear()
    hooks.receiver.hang_up()
    silent.rest_is_over()
    hooks.work.drain()
    # One has asked whether the endpoint is back, and waits for its next attempt as the schedule says.
    assert len(claims) == len(hooks.receiver.calls) == 1
    assert make.value(_WAITING) == count - 1
    assert make.value("select count(*) from webhook_deliveries where failure_code <> 'circuit_open'") == 1


@pytest.mark.usefixtures("spread")
def test_they_arrive_when_the_endpoint_answers_in_the_order_of_their_events(hooks: Hooks, monkeypatch):
    monkeypatch.setattr("dues.webhooks.waiting.MOST_RELEASED", 7)
    silent = Silent(hooks, 20)
    hooks.work.drain()
    silent.rest_is_over()
    hooks.work.drain()
    assert [call.event["seq"] for call in hooks.receiver.calls] == [*range(1, 21)]
    assert {(d["status"], len(d["attempts"])) for d in hooks.deliveries()} == {("succeeded", 1)}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda silent: silent.make.rows("delete from circuit_breakers"), ("succeeded", None)),
        (lambda silent: silent.change({"url": silent.hooks.receiver.url + "&moved"}), ("succeeded", None)),
        (lambda silent: silent.change({"enabled": False}), ("failed", "endpoint_disabled")),
        (
            lambda silent: silent.make.rows(
                "update webhook_endpoints set enabled = false, disabled_reason = 'failing'"
            ),
            ("failed", "endpoint_disabled"),
        ),
        (
            lambda silent: silent.hooks.send("DELETE", f"/webhook-endpoints/{silent.id}"),
            ("failed", "endpoint_disabled"),
        ),
    ],
    ids=["the circuit is forgotten", "a new URL", "disabled", "given up", "deleted"],
)
def test_what_ends_the_waiting(change: Callable[[Silent], object], expected: tuple[str, str | None], hooks: Hooks):
    silent = Silent(hooks, 3)
    hooks.work.drain()
    assert hooks.make.value(_WAITING) == 3
    change(silent)
    hooks.work.drain()
    assert [(d["status"], d["failure_code"]) for d in hooks.deliveries()] == [expected] * 3


def test_those_of_other_endpoints_are_delivered_meanwhile(hooks: Hooks, make: Factory):
    silent = Silent(hooks, 3)
    hooks.register(url=hooks.receiver.url + "&other")
    hooks.happen()
    hooks.work.drain()
    assert [call.path for call in hooks.receiver.calls] == ["/hooks?k=1&other"]
    assert make.value(_WAITING) == silent.count + 1


def test_one_that_waits_for_its_next_attempt_keeps_its_time(hooks: Hooks, make: Factory):
    hooks.register()
    hooks.receiver.always(500)
    hooks.happen()
    hooks.work.drain()
    planned = hooks.delivery()["next_attempt_at"]
    with hooks.app.app_context(), transaction():
        assert put_off(hooks.store.id, UUID(hooks.delivery()["endpoint_id"]), "circuit_open", wait_s=None) == 0
    assert hooks.delivery()["next_attempt_at"] == planned


@pytest.mark.usefixtures("spread")
def test_several_at_once_put_each_off_once(hooks: Hooks, make: Factory):
    silent = Silent(hooks, 60)

    def do(number: int) -> int:
        with hooks.app.app_context(), transaction():
            return put_off(hooks.store.id, silent.id, "circuit_open", wait_s=None, most=25)

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(do, range(4))) == 60
    assert make.value("select count(*) from webhook_deliveries where version = 2") == 60
    make.rows("delete from circuit_breakers")

    def let(number: int) -> int:
        with hooks.app.app_context():
            return release()

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(let, range(4))) == 60
    assert make.value(_DUE) == 60


def test_one_whose_worker_dies_as_it_begins_to_wait_is_not_lost(hooks: Hooks, make: Factory):
    """It is noted that the delivery waits, but its job is still the dead worker's."""
    Silent(hooks, 1)
    running = ", lease_token = gen_random_uuid(), lease_until = now() + interval '1 minute', leased_by = 'dead'"
    make.rows("update webhook_deliveries set next_attempt_at = null, failure_code = 'circuit_open'")
    make.rows(f"update jobs set status = 'running', started_at = now() {running}")
    make.rows("delete from circuit_breakers")
    hooks.work.drain()
    assert hooks.receiver.calls == []
    make.rows("update jobs set status = 'queued', lease_token = null, lease_until = null")
    hooks.work.drain()
    assert hooks.delivery()["status"] == "succeeded"


class TestABusyHost:
    def test_is_made_way_for_by_some_that_would_be_next(self, hooks: Hooks, make: Factory, claims, monkeypatch):
        monkeypatch.setattr("dues.webhooks.deliveries.hosts.place", _nowhere)
        silent = Silent(hooks, 60)
        make.rows("delete from circuit_breakers")
        hooks.work.drain()
        assert len(claims) == 3
        assert make.value("select count(*) from webhook_deliveries where failure_code = 'host_busy'") == silent.count
        assert make.value("select count(*) from jobs where run_at > now() + interval '10 s'") == 0


@contextmanager
def _nowhere(*args: object) -> Iterator[bool]:
    yield False


@pytest.fixture
def waiting_crowd(fresh_tables: None, hooks: Hooks, make: Factory) -> Row:
    """5,000 deliveries wait for one endpoint, and one for each of 50 others; 20 more are due to the first."""
    endpoint = make.endpoint(hooks.store)
    crowd(make, hooks.store.id, endpoint.id, 5000)
    make.rows("update jobs set due = false")
    make.rows("update webhook_deliveries set next_attempt_at = null, failure_code = 'circuit_open'")
    make.rows("update webhook_deliveries set next_attempt_at = now() where seq > 4980")
    make.rows("update jobs set due = true from webhook_deliveries d where d.job_id = jobs.id and d.seq > 4980")
    for n in range(50):
        other = make.endpoint(hooks.store)
        make.rows(
            "update webhook_deliveries set endpoint_id = %(id)s where seq = %(seq)s", {"id": other.id, "seq": n + 1}
        )
    return endpoint


LOOKS: dict[str, tuple[str, dict[str, Any], int]] = {
    # A thousand blocks are a hundred rows, each found, locked and written in two tables with their indexes.
    "put off": (
        waiting._PUT_OFF,
        {"code": "circuit_open", "wait_s": None, "longest": waiting.LONGEST, "most": 1000},
        1500,
    ),
    "free": (waiting._FREE, {"most": 10, "circuits": "webhook:"}, 1000),
    "release": (waiting._RELEASE, {"most": 10}, 1000),
}


@pytest.mark.one_server("it takes these statements apart, and each is another plan")
def test_a_look_reads_as_much_as_it_changes_and_not_what_waits(waiting_crowd: Row, make: Factory):
    for is_analyzed in (False, True):
        if is_analyzed:
            make.rows("analyze jobs; analyze webhook_deliveries")
        for name, (sql, values, blocks) in LOOKS.items():
            asked = {"store_id": waiting_crowd.store_id, "endpoint_id": waiting_crowd.id} | values
            plan = plan_of(make, sql, asked)
            assert "Seq Scan" not in str(plan), (name, is_analyzed)
            assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < blocks, (name, is_analyzed)


def plan_of(make: Factory, sql: str, values: dict[str, Any]) -> dict[str, Any]:
    """How PostgreSQL runs it, with all that it changes taken back."""
    text, arguments = _numbered(sql)
    make.rows("begin; set local enable_seqscan = off; set local plan_cache_mode = force_generic_plan")
    try:
        make.rows(f"prepare look as {text.replace('%', '%%')}", {})
        [row] = make.rows(f"explain (analyze, buffers, format json) execute look{arguments}", values)
    finally:
        make.rows("rollback")
        make.rows("deallocate all")
    plan: dict[str, Any] = next(iter(vars(row).values()))[0]["Plan"]
    return plan
