"""What is done for many stores at once goes on while one of them takes no writes, and passes that one over."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row
from typing import Any

import psycopg2
import pytest
from flask import Flask

from config import Settings
from dues.billing import renewals
from dues.ids import new_id
from dues.jobs import Kind, Run, kinds
from dues.jobs.turns import Turns
from dues.moves.fence import Fence
from dues.payments.gateways import NOBODY
from dues.postgres.changing import Session, changing
from dues.reports.files import file_store, report_key
from dues.settings import settings
from dues.vault import new_key
from tests.billing.conftest import Club
from tests.factory import Factory
from tests.jobs.conftest import Jobs
from tests.moves.conftest import End, add_gateway
from workers import relay, schedule
from workers.job import HANDLERS

LONG_AGO = "interval '1000 days'"
# Each is true of a store of which something is to be done, and not once it was done.
TO_DO = {
    "finished jobs": "select from jobs where store_id = %(id)s and finished_at < now() - interval '900 days'",
    "events": "select from events where store_id = %(id)s and created_at < now() - interval '900 days'",
    "deliveries": "select from webhook_deliveries where store_id = %(id)s and status <> 'pending'",
    "waiting deliveries": "select from webhook_deliveries where store_id = %(id)s and status = 'pending'"
    " and next_attempt_at is null",
    "waiting jobs": "select from jobs where store_id = %(id)s and waits_for is not null",
    "news of gateways": "select from gateway_events where store_id = %(id)s and event_id = 'evt_1'",
    "news that no hook told": "select from sandbox_gateway.disputes d where store_id = %(id)s and not exists ("
    " select from gateway_events e where e.store_id = d.store_id and e.event_id = d.reference || ':' || d.status)",
    "sweep of its own account": "select from gateway_accounts a where store_id = %(id)s and not exists ("
    " select from jobs j where j.kind = 'gateway.sweep' and j.store_id = a.store_id)",
    "files of reports": "select from reports where store_id = %(id)s and file_key is not null",
    "files of imports": "select from imports where store_id = %(id)s and upload_key is not null",
    "refusals of imports": "select from import_refusals where store_id = %(id)s",
    "renewals": "select from subscriptions where store_id = %(id)s and next_action_at < now()",
}
# In tables by month rows go with the month that their ids name, which is the present one here.
BY_MONTH = {"finished jobs", "events", "deliveries"}


def put_aside(make: Factory, store: Row) -> None:
    """Rows that the relay and the housekeeping have something to do with."""
    old, user = datetime.now(UTC) - timedelta(days=1000), make.user()
    named = {"store_id": store.id}
    endpoint = make.endpoint(store)
    make.delivery(endpoint, make.event(store, created_at=old), created_at=old)
    for columns in (
        {"status": "succeeded", "finished_at": old},
        {"waits_for": "gateway:that-works", "run_at": datetime.now(UTC) + timedelta(hours=1)},
    ):
        add_job(make, store, **columns)
    waiting = add_job(make, store, due=False, run_at=datetime.now(UTC) + timedelta(days=7))
    make.delivery(endpoint, make.event(store), status="pending", next_attempt_at=None, job_id=waiting.id)
    event = {"gateway": "sandbox", "event_id": "evt_1", "about": "charge", "name": "x", "received_at": old}
    make.insert("gateway_events", named | event)
    account = {"id": new_id(), "type": "stripe", "reference": "acct_1", "secret_key": b"x", "webhook_secret": b"x"}
    make.insert("gateway_accounts", named | account)
    dispute = {"reference": new_id().hex, "charge_key": new_id().hex, "amount": 1, "currency": "EUR"}
    make.insert("sandbox_gateway.disputes", named | dispute | {"status": "open", "ends_as": "open"})
    _add_files(make, store, old)
    make.customer(store, user)
    make.subscription(store, user, next_action_at=datetime.now(UTC) - timedelta(days=1))


def _add_files(make: Factory, store: Row, old: datetime) -> None:
    report_id, import_id = new_id(), new_id()
    file, upload_key = report_key(report_id, "csv"), f"imports/{store.id}/{import_id}/upload"
    named = {"store_id": store.id, "requested_by": store.owner_id, "updated_at": old}
    report = {"id": report_id, "kind": "payments", "format": "csv", "file_key": file}
    times = {"range_from": "2025-01-01T00:00:00Z", "range_to": "2025-02-01T00:00:00Z", "status": "succeeded"}
    make.insert("reports", named | report | times)
    upload = {"id": import_id, "kind": "customers", "format": "csv", "status": "failed", "bytes": 1}
    make.insert("imports", named | upload | {"upload_key": upload_key})
    refusal = {"import_id": import_id, "line": 9, "external_id": "9", "code": "x", "pointer": "", "detail": ""}
    make.insert("import_refusals", {"store_id": store.id} | refusal)
    for key in (file, upload_key):
        with file_store().create(key) as draft:
            draft.write(b"x")


def add_job(make: Factory, store: Row, **columns: Any) -> Row:
    job = {"id": new_id(), "kind": "payment.charge", "queue": "critical", "args": {}, "store_id": store.id}
    limits = {"run_at": datetime.now(UTC), "max_attempts": 9, "timeout_s": 60}
    return make.insert("jobs", job | limits | columns)


def to_do(make: Factory, store: Row) -> set[str]:
    return {
        name for name, found in TO_DO.items() if make.value(f"select exists ({found})", {"id": store.id})
    }  # fmt: skip


def have(jobs: Jobs, kind: Kind, args: dict[str, Any] | None = None) -> None:
    """Do a job's work here, whose failures are not caught."""
    run = Run(*jobs.claimed(jobs.add(kind, args)))
    HANDLERS[kind.name].handler(run, **(args or {}))


def do_all(jobs: Jobs) -> None:
    """What is done again and again, for all stores."""
    for task in (relay.relay_once, relay.sweep_once, schedule.tick_once, renewals.offer):
        task()
    for entry in schedule.SCHEDULE:
        have(jobs, entry.kind)
    have(jobs, kinds.GATEWAY_SWEEP, {"gateway": "sandbox", "store_id": str(NOBODY), "account_id": None})
    have(jobs, kinds.SUBSCRIPTION_RENEW)


def test_a_store_that_moves_is_passed_over_and_all_others_are_seen_to(
    here: End, make: Factory, jobs: Jobs, pytestconfig: pytest.Config
) -> None:
    left = BY_MONTH if pytestconfig.getoption("partitioned") else set[str]()
    moving, other = make.store(make.user()), make.store(make.user())
    for store in (moving, other):
        put_aside(make, store)
        assert to_do(make, store) == TO_DO.keys()
    with here.fenced(moving):
        before = here.contents(moving)
        do_all(jobs)
        assert to_do(make, other) == left
        assert to_do(make, moving) == TO_DO.keys()
        after = here.contents(moving)
        # That the time of a job has come is noted of many at once, and does no harm; and a gateway's own books are not
        # the store's.
        changed = {name for name, rows in before.items() if rows != after[name]}
        assert changed <= {"jobs", "sandbox_gateway.disputes"}
        keys = make.rows("select file_key as key from reports union all select upload_key from imports")
        assert sum(file_store().size(row.key) is not None for row in keys if row.key) == 2
    do_all(jobs)
    assert to_do(make, moving) == left


def test_no_worker_is_stopped_by_a_job_that_it_may_not_begin(
    here: End, make: Factory, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever a move is killed while it holds jobs."""
    moving, other = sorted((make.store(make.user()) for _ in range(2)), key=lambda store: store.id)
    for store in (moving, *[other] * 3):
        add_job(make, store, due=True)
    together, begun = Session.together, list[Any]()

    def watched(session: Session, statements: Sequence[str]) -> None:
        together(session, statements)
        # Of a worker that would take a job of the store that moves first.
        found = Turns("critical").claim("worker")
        begun.append(found and jobs.row(found[0].job_id).store_id)

    with here.fenced(moving), changing(settings()) as session, monkeypatch.context() as patched:
        fence = Fence(session, moving.id)
        fence.lift(free_jobs=True)
        patched.setattr(Session, "together", watched)
        fence.hold_jobs()
    assert begun == [other.id, other.id]


def test_a_charge_that_is_held_is_not_the_probe_of_its_circuit(here: End, make: Factory, jobs: Jobs) -> None:
    make.rows("insert into circuit_breakers(name, failures, open_until, updated_at) values ('g', 9, now(), now())")
    moving, other = make.store(make.user()), make.store(make.user())
    later = datetime.now(UTC) + timedelta(hours=1)
    held, probe = (add_job(make, store, due=False, waits_for="g", run_at=later).id for store in (moving, other))
    with here.fenced(moving):
        relay.relay_once()
        assert [jobs.row(job_id).waits_for for job_id in (held, probe)] == ["g", None]


def test_failed_jobs_of_all_other_stores_begin_anew(here: End, make: Factory, in_app: Flask) -> None:
    moving, other = make.store(make.user()), make.store(make.user())
    ended = {"status": "failed", "finished_at": datetime.now(UTC)}
    failed = [add_job(make, store, **ended).id for store in (moving, other, moving)]
    with here.fenced(moving):
        told = in_app.test_cli_runner().invoke(args=["jobs", "retry", "--failed", "payment.charge"])
        assert (told.exit_code, f"{failed[1]} is queued" in told.output) == (1, True)
        assert told.output.count("this store is being moved to another server") == 2
        assert "Error: 2 of 3 jobs are as they were" in told.output


def test_the_keys_of_secrets_are_changed_but_for_a_store_that_moves(
    here: End, shop: Club, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    stay = Club(app, shop.client, shop.make, shop.work, now=None)
    for club in (shop, stay):
        add_gateway(club, club.owner)
    before: Settings = app.extensions["settings"]
    monkeypatch.setitem(
        app.extensions, "settings", here.servers.settings(secrets_keys=f"{new_key()},{before.secrets_keys}")
    )
    run = app.test_cli_runner().invoke
    with here.fenced(shop.store):
        told = run(args=["gateways", "rotate"])
        assert (told.exit_code, "1 accounts were encrypted anew" in told.output) == (1, True)
        assert "1 accounts are of stores that are being moved" in told.output
    assert run(args=["gateways", "rotate"]).output == "1 accounts were encrypted anew\n"


def test_operators_are_told_of_a_move_that_is_not_over(here: End, make: Factory, in_app: Flask) -> None:
    store, client = make.store(make.user()), in_app.test_client()
    with here.fenced(store):
        assert f"jobs are held: {store.id} (copying)" in in_app.test_cli_runner().invoke(args=["jobs", "stats"]).output
        assert "\ndues_stores_moving 1.0\n" in client.get("/metrics").text
    assert "are held" not in in_app.test_cli_runner().invoke(args=["jobs", "stats"]).output
    assert "\ndues_stores_moving 0.0\n" in client.get("/metrics").text


def test_the_fence_stands_in_these_tests(here: End, make: Factory) -> None:
    """Without it they would show nothing."""
    store = make.store(make.user())
    with here.fenced(store), pytest.raises(psycopg2.Error) as refused:
        make.rows("update stores set name = 'x' where id = %(id)s", {"id": store.id})
    assert refused.value.pgcode == "DU503"
    assert here.is_untouched(store)
