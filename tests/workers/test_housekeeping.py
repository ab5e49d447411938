"""What has expired is deleted when its time has come, and nothing else."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace as Row
from typing import Any

import pytest
import time_machine
from flask.testing import FlaskClient

from dues.clock import now
from dues.ids import new_id
from dues.jobs import Kind, Run, kinds
from dues.reports.files import file_store, report_key
from tests.factory import Factory
from tests.jobs.conftest import Jobs
from tests.servers import wait_until
from tests.workers.conftest import Processes
from workers import housekeeping, schedule
from workers.job import HANDLERS

HOUSEKEEPING = (
    kinds.FORGET_KEYS,
    kinds.FORGET_JOBS,
    kinds.FORGET_TOKENS,
    kinds.FORGET_CODES,
    kinds.FORGET_ATTEMPTS,
    kinds.FORGET_REPORT_FILES,
    kinds.FORGET_IMPORT_FILES,
    kinds.FORGET_EVENTS,
    kinds.FORGET_CIRCUITS,
    kinds.FORGET_GATEWAY_EVENTS,
    kinds.FORGET_SYNC_OPERATIONS,
    kinds.FORGET_SYNC_TOMBSTONES,
    kinds.FORGET_PARTITIONS,
    kinds.FORGET_PLACES,
)

ALL = (*HOUSEKEEPING, kinds.GATEWAY_SWEEPS)


def keep_house(jobs: Jobs, kind: Kind) -> int:
    """Run the handler of a kind. Returns: how much it says it has forgotten."""
    run = Run(*jobs.claimed(jobs.add(kind)))
    result = HANDLERS[kind.name].handler(run)
    run.complete(result)
    assert result
    return int(result["forgotten"])


def ago(**span: float) -> datetime:
    return datetime.now(UTC) - timedelta(**span)


def test_keys_whose_time_is_over(jobs: Jobs, make: Factory, monkeypatch: pytest.MonkeyPatch):
    for name, age in {"old": 25, "older": 100, "new": 23}.items():
        make.insert(
            "idempotency_keys",
            {
                "scope": "somebody",
                "key": name,
                "request_hash": b"",
                "status": 202,
                "headers": {},
                "body": "",
                "created_at": ago(hours=age),
            },
        )
    monkeypatch.setattr("dues.retention.BATCH", 1)
    assert keep_house(jobs, kinds.FORGET_KEYS) == 2
    assert [row.key for row in make.rows("select key from idempotency_keys")] == ["new"]
    assert keep_house(jobs, kinds.FORGET_KEYS) == 0


@pytest.mark.usefixtures("spread")
def test_events_and_deliveries_of_long_ago(jobs: Jobs, make: Factory, monkeypatch: pytest.MonkeyPatch):
    store = make.store()
    endpoint = make.endpoint(store)
    events = [make.event(store, created_at=ago(days=age)) for age in (200, 100, 91, 89)]
    for event, status in zip(events, ("succeeded", "pending", "failed", "succeeded"), strict=True):
        make.delivery(endpoint, event, status=status, created_at=event.created_at)
    monkeypatch.setattr("dues.webhooks.retention._MOST", 1)
    assert keep_house(jobs, kinds.FORGET_EVENTS) == 4
    # The second is still on its way.
    assert [row.seq for row in make.rows("select seq from events order by seq")] == [2, 4]
    assert [row.seq for row in make.rows("select seq from webhook_deliveries order by seq")] == [2, 4]
    assert make.event(store).seq == 5


def test_circuits_that_have_not_failed_for_a_day(jobs: Jobs, make: Factory, monkeypatch: pytest.MonkeyPatch):
    for name, age in {"old": 25, "older": 100, "new": 23}.items():
        make.insert("circuit_breakers", {"name": name, "failures": 1, "updated_at": ago(hours=age)})
    monkeypatch.setattr("dues.breaker._MOST_DELETED", 1)
    assert keep_house(jobs, kinds.FORGET_CIRCUITS) == 2
    assert [row.name for row in make.rows("select name from circuit_breakers")] == ["new"]


@pytest.mark.usefixtures("spread")
def test_jobs_that_ended_long_ago(jobs: Jobs, make: Factory):
    ended, recent, failed, live = (jobs.add() for _ in range(4))
    for job_id, status, age in ((ended, "succeeded", 31), (failed, "failed", 31), (recent, "succeeded", 29)):
        jobs.change(job_id, f"status = '{status}', finished_at = now() - interval '{age} days'")
    jobs.change(live, "created_at = now() - interval '1 year'")
    assert keep_house(jobs, kinds.FORGET_JOBS) == 2
    left = {row.id for row in make.rows("select id from jobs where kind = 'test.quick'")}
    assert left == {recent, live}


@pytest.mark.usefixtures("spread")
def test_what_gateways_told_long_ago(jobs: Jobs, make: Factory):
    for days, store in ((32, make.store()), (40, make.store()), (30, make.store())):
        told = {"gateway": "sandbox", "event_id": f"of {days} days", "about": "charge", "name": "x"}
        make.insert("gateway_events", {"store_id": store.id, **told, "received_at": ago(days=days)})
    assert keep_house(jobs, kinds.FORGET_GATEWAY_EVENTS) == 2
    assert [row.event_id for row in make.rows("select event_id from gateway_events")] == ["of 30 days"]


def test_tokens_that_open_nothing_any_more(jobs: Jobs, make: Factory):
    user = make.user()
    made = {"long over": -10, "over": -1.1, "just over": -0.9, "of a year": 325, "fresh": 30}
    for name, left in made.items():
        make.token(user, name=name, expires_in=timedelta(days=left))
    assert keep_house(jobs, kinds.FORGET_TOKENS) == 2
    assert {row.name for row in make.rows("select name from api_tokens")} == {"just over", "of a year", "fresh"}


def test_codes_and_counts_whose_time_is_over(jobs: Jobs, make: Factory):
    user = make.user()
    for left in (-1, 1):
        make.code(user, "verify-email", expires_in=timedelta(hours=left))
        make.insert("account_attempts", {"key": bytes([left + 1]), "used": 1, "ends_at": ago(hours=-left)})
    assert keep_house(jobs, kinds.FORGET_CODES) == 1
    assert keep_house(jobs, kinds.FORGET_ATTEMPTS) == 1
    assert make.value("select count(*) from account_codes where expires_at > now()") == 1
    assert make.value("select count(*) from account_attempts where ends_at > now()") == 1


@pytest.mark.parametrize("kind", [kinds.FORGET_TOKENS, kinds.FORGET_REPORT_FILES], ids=lambda kind: kind.name)
def test_a_machine_whose_clock_is_fast_deletes_nothing(jobs: Jobs, make: Factory, kind: Kind):
    make.token(make.user())
    finished_report(make, make.store(), 1)
    run = Run(*jobs.claimed(jobs.add(kind)))
    with time_machine.travel(now() + timedelta(days=400), tick=False):
        assert HANDLERS[kind.name].handler(run) == {"forgotten": 0}


def finished_report(make: Factory, store: Row, days: int) -> Row:
    report_id = new_id()
    key = report_key(report_id, "csv")
    with file_store().create(key) as draft:
        draft.write(b"id\r\n")
    columns: dict[str, Any] = {
        "store_id": store.id,
        "id": report_id,
        "requested_by": store.owner_id,
        "kind": "payments",
        "format": "csv",
        "range_from": ago(days=400),
        "range_to": ago(days=300),
        "status": "succeeded",
        "file_key": key,
        "rows": 0,
        "bytes": draft.size,
        "sha256": draft.sha256(),
        "updated_at": ago(days=days),
    }
    return make.insert("reports", columns)


def test_the_files_of_old_reports(jobs: Jobs, make: Factory, client: FlaskClient):
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    old, recent = finished_report(make, store, 91), finished_report(make, store, 89)
    path = f"/v1/stores/{store.id}/reports"

    def get(url: str) -> Any:
        return client.get(f"{path}/{url}", headers=auth)

    assert get(f"{old.id}").json["links"]["file"] == f"{path}/{old.id}/file"
    assert keep_house(jobs, kinds.FORGET_REPORT_FILES) == 1
    assert [file_store().size(report.file_key) for report in (old, recent)] == [None, 4]
    shown = get(f"{old.id}").json
    assert (shown["status"], shown["links"]["file"], shown["version"]) == ("succeeded", None, old.version + 1)
    answer = get(f"{old.id}/file")
    assert (answer.status_code, answer.json["code"]) == (404, "file_gone")
    assert get(f"{recent.id}/file").data == b"id\r\n"
    assert keep_house(jobs, kinds.FORGET_REPORT_FILES) == 0


@pytest.mark.usefixtures("spread")
def test_a_file_that_is_gone_without_its_row_is_seen_to_the_next_time(jobs: Jobs, make: Factory):
    report = finished_report(make, make.store(), 91)
    file_store().delete(report.file_key)
    assert keep_house(jobs, kinds.FORGET_REPORT_FILES) == 1
    assert make.value("select file_key from reports") is None


def test_a_backlog_is_worked_off_in_turns(jobs: Jobs, make: Factory, monkeypatch: pytest.MonkeyPatch):
    for job_id in [jobs.add() for _ in range(3)]:
        jobs.change(job_id, "status = 'succeeded', finished_at = now() - interval '1 year'")
    monkeypatch.setattr("dues.retention.BATCH", 1)
    monkeypatch.setattr(housekeeping, "_LONGEST_S", 0.0)
    assert keep_house(jobs, kinds.FORGET_JOBS) == 1
    monkeypatch.setattr(housekeeping, "_LONGEST_S", 60.0)
    assert keep_house(jobs, kinds.FORGET_JOBS) == 2


def test_all_of_it_is_due_every_hour():
    hourly = {(kind, 3600) for kind in HOUSEKEEPING}
    assert {(entry.kind, entry.seconds) for entry in schedule.SCHEDULE} == {*hourly, (kinds.GATEWAY_SWEEPS, 300)}


def test_ticks_missed_while_no_relay_ran_are_made_up_for_once(processes: Processes, jobs: Jobs, make: Factory):
    for kind in ALL:
        missed = {"name": kind.name, "due_at": ago(hours=7), "job_id": new_id()}
        make.insert("schedule_ticks", missed)
    processes.start("workers", WORKER_QUEUES="slow:1")
    for _ in range(2):
        processes.start("relay", DUES_TESTS_SCHEDULE="1")
    done = "select kind, status from jobs where status = 'succeeded' order by kind"
    wait_until(lambda: len(make.rows(done)) >= len(ALL), 30, "the housekeeping")
    # Another five minutes may just have begun, or another hour.
    assert len(make.rows("select 1 from jobs")) - len(ALL) in (0, 1, len(ALL))
