"""An import goes on where it was, whatever becomes of its workers, and stops where it may not go on."""

import gc
import os
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg2
import pytest

from dues import failpoints
from dues.failpoints import Armed
from dues.imports import run
from dues.imports.apply import Applied, apply
from dues.imports.context import Importer as Into
from dues.imports.retention import delete_expired_files
from dues.imports.rows import Kind, Parsed
from dues.imports.run import run_import
from dues.imports.service import Running, start_import
from dues.jobs import LeaseLost, Run
from dues.jobs.lease import claim
from dues.postgres import fetch_row, transaction
from dues.reports.files import file_store
from tests.imports.conftest import Importer
from tests.servers import wait_until
from tests.workers.conftest import Processes, children, processes

__all__ = ["processes"]


def customers(count: int) -> bytes:
    """Of which every tenth is none."""
    rows = (f"C-{n},{'' if n % 10 == 0 else f'c{n}@example.com'},Somebody\n" for n in range(1, count + 1))
    return ("external_id,email,name\n" + "".join(rows)).encode()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BATCH", 20)


def sent(importer: Importer, content: bytes, kind: str = "customers") -> dict[str, Any]:
    answer = importer.send(kind, content)
    assert answer.status_code == 202, answer.text
    found: dict[str, Any] = answer.json or {}
    return found


def check(importer: Importer, count: int) -> None:
    """Each row was written, or refused, once."""
    (one,) = importer.club.get(importer.path)["data"]
    refused = count // 10
    assert (one["status"], one["rows"], one["created"], one["refused"]) == (
        "succeeded",
        count,
        count - refused,
        refused,
    )
    assert [int(line["line"]) for line in importer.refused(one)] == [n + 1 for n in range(10, count + 1, 10)]
    made = importer.club.make.rows("select external_id from external_ids")
    assert len(made) == len({row.external_id for row in made}) == count - refused
    job = importer.club.get(one["links"]["job"])
    assert (job["status"], job["progress"]["percent"]) == ("succeeded", 100.0)


LINES = ["import.before_commit", "import.after_batch"]


@pytest.mark.parametrize("line", LINES)
@pytest.mark.usefixtures("small")
def test_whatever_line_fails_each_row_is_written_once(
    importer: Importer, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(importer, customers(50))
    monkeypatch.setattr(failpoints, "_armed", {line: Armed("raise", str(tmp_path / "once"))})
    importer.club.work.drain()
    assert (tmp_path / "once").exists()
    importer.club.work.hurry()
    check(importer, 50)


def test_a_worker_that_is_killed_is_followed_by_another(
    importer: Importer, processes: Processes, tmp_path: Path
) -> None:
    sent(importer, customers(600))
    marker = tmp_path / "marker"
    _, workers = processes.start_both("slow:1", DUES_FAILPOINTS=f"import.before_commit=stop:{marker}")
    wait_until(marker.exists, 20, "the first batch")
    for member in reversed(children(workers)):
        member.kill()
    wait_until(lambda: importer.club.get(importer.path)["data"][0]["status"] == "succeeded", 30, "the import")
    check(importer, 600)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("wakes_up", ["before its transaction is ended", "after it"])
def test_a_worker_that_freezes_in_a_batch_is_followed_by_another(
    importer: Importer, processes: Processes, tmp_path: Path, wakes_up: str
) -> None:
    """What it had begun is written once, by it or by the other; until then nobody waits but whoever goes on with the
    import."""
    club, marker = importer.club, tmp_path / "marker"
    sent(importer, customers(1200))
    options = {"JOB_LEASE_S": "2", "DUES_FAILPOINTS": f"import.before_commit=stop:{marker}"}
    _, workers = processes.start_both("slow:2", **options)
    frozen: list[psutil.Process] = []

    def freezes() -> bool:
        frozen[:] = [member for member in children(workers) if member.status() == psutil.STATUS_STOPPED]
        return bool(frozen)

    wait_until(freezes, 30, "a job to freeze in its first batch")
    # The worker of the job, which would go on to renew its lease.
    frozen += frozen[0].parents()[:1]
    frozen[1].suspend()
    attempt = "select attempt from jobs where kind = 'import.run'"
    wait_until(lambda: club.make.value(attempt) == 2, 30, "another worker to take over")
    assert club.make.rows("select from imports for update skip locked") == []
    assert club.get(importer.path)["data"][0]["rows"] == 0
    package = {"name": "Gold", "amount": 1500, "interval": "month"}
    answer = club.client.post(f"{club.path}/packages", json=package, headers=club.owner_auth)
    assert answer.status_code == 201, answer.text

    def wake() -> None:
        assert {member.status() for member in frozen} == {psutil.STATUS_STOPPED}
        for member in frozen:
            member.resume()

    if wakes_up == "before its transaction is ended":
        wake()
    wait_until(lambda: club.get(importer.path)["data"][0]["status"] == "succeeded", 120, "the import")
    if wakes_up == "after it":
        wake()
    check(importer, 1200)
    # A worker ends what it is at before it ends.
    processes.end()
    check(importer, 1200)


def begun(one: dict[str, Any]) -> tuple[Run, Running]:
    """As a worker has it."""
    store_id, import_id = UUID(one["store_id"]), UUID(one["id"])
    row = fetch_row("select job_id from imports where id = %(id)s", {"id": import_id})
    found = claim([row[0]], "tester") if row else None
    assert found
    with transaction():
        return Run(found.claim, found.lease), start_import(store_id, import_id)


@pytest.mark.usefixtures("small")
def test_of_two_workers_one_writes(importer: Importer) -> None:
    """One that was taken for dead finds the import elsewhere than it had left it, and writes nothing more."""
    one = sent(importer, customers(50))
    with importer.club.app.app_context():
        job, first = begun(one)
        with transaction():
            second = start_import(first.store_id, first.id)
        first_batch, *_ = run.batches(first, file_store())
        run._write(job, first, first_batch)
        before = importer.club.make.rows("select * from imports")
        with pytest.raises(LeaseLost):
            run_import(job, second, file_store())
        assert importer.club.make.rows("select * from imports") == before


@pytest.mark.usefixtures("small")
def test_it_stops_where_the_role_is_taken_away(
    importer: Importer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    club = importer.club
    sent(importer, customers(50))
    monkeypatch.setattr(failpoints, "_armed", {"import.after_batch": Armed("raise", str(tmp_path / "once"))})
    club.work.drain()
    club.make.rows("update store_staff set role = 'support' where user_id = %(id)s", {"id": club.owner.id})
    club.work.hurry()
    (one,) = club.make.rows("select status, rows, created from imports")
    assert (one.status, one.rows, one.created) == ("failed", 20, 18)
    (error,) = [row.error for row in club.make.rows("select error from jobs where kind = 'import.run'")]
    assert error["status"] == 403


def test_it_can_be_canceled(importer: Importer) -> None:
    one = sent(importer, customers(50))
    answer = importer.club.client.delete(one["links"]["job"], headers=importer.club.owner_auth)
    assert answer.status_code == 200, answer.text
    importer.club.work.drain()
    one = importer.club.get(one["links"]["self"])
    assert (one["status"], one["rows"], one["links"]["file"]) == ("canceled", 0, None)
    assert importer.club.events() == ["import.canceled"]


def test_a_row_that_postgresql_refuses_costs_no_other(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(store: Into, kind: Kind, batch: Sequence[Parsed]) -> Applied:
        if any(parsed.external_id == "C-7" and not hasattr(parsed.row, "code") for parsed in batch):
            fetch_row("select 1 / 0", {})
        return apply(store, kind, batch)

    monkeypatch.setattr(run, "apply", failing)
    one = importer.run("customers", customers(12))
    assert (one["rows"], one["created"], one["refused"]) == (12, 10, 2)
    assert [(line["line"], line["code"]) for line in importer.refused(one)] == [
        ("8", "not_written"),
        ("11", "required"),
    ]


def test_an_outage_is_no_fault_of_the_rows(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*args: object) -> Applied:
        raise psycopg2.OperationalError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(run, "apply", failing)
        sent(importer, customers(12))
        importer.club.work.drain()
    (one,) = importer.club.get(importer.path)["data"]
    assert (one["status"], one["rows"]) == ("running", 0)
    importer.club.work.hurry()
    assert importer.club.get(importer.path)["data"][0]["rows"] == 12


def test_a_store_whose_clock_moves_waits(importer: Importer) -> None:
    one = sent(importer, customers(12))
    moment = importer.club.make.value("select moment from store_clocks")
    importer.club.make.rows("update store_clocks set advancing_to = %(to)s", {"to": moment + timedelta(days=1)})
    importer.club.work.drain()
    assert importer.club.get(one["links"]["self"])["rows"] == 0
    importer.club.make.rows("update store_clocks set advancing_to = null")
    importer.club.work.hurry()
    assert importer.club.get(one["links"]["self"])["status"] == "succeeded"


def test_files_are_kept_for_a_time(importer: Importer) -> None:
    club, home = importer.club, Path(importer.club.app.extensions["settings"].files_dir)
    done = importer.run("customers", customers(12))
    waiting = sent(importer, customers(13))
    folders = [home / "imports" / str(club.store.id) / one["id"] for one in (done, waiting)]
    assert [file.name for file in folders[0].iterdir()] == ["refused"]
    assert [file.name for file in folders[1].iterdir()] == ["upload"]
    club.make.rows("update imports set updated_at = now() - interval '91 days'")
    with club.app.app_context(), transaction():
        assert delete_expired_files() == 2
    assert not any(folder.exists() for folder in folders)
    assert club.client.get(done["links"]["file"], headers=club.owner_auth).status_code == 404
    club.work.drain()
    assert club.get(waiting["links"]["self"])["status"] == "failed"


def subscriptions(count: int, since: datetime) -> Iterator[bytes]:
    """Whose periods end on one of the next 28 days."""
    yield b"external_id,email,package_external_id,started_at,current_period_end\n"
    for n in range(count):
        end = since + timedelta(days=1 + n % 28)
        yield f"S-{n},s{n}@example.com,gold,2020-01-01T00:00:00Z,{end.isoformat()}\n".encode()


MANY = int(os.environ.get("DUES_IMPORT_ROWS", "100000"))


@pytest.mark.parametrize("count", [300, pytest.param(MANY, marks=[pytest.mark.slow, pytest.mark.timeout(1200)])])
def test_many_subscriptions_in_memory_that_does_not_grow(make_club: Any, count: int) -> None:
    """Nobody is charged, and each first renewal is due on its date."""
    importer = Importer(make_club(None))
    club, now = importer.club, datetime.now(UTC).replace(microsecond=0)
    importer.counts("packages", [{"external_id": "gold", "name": "Gold", "amount": 5000, "interval": "month"}])
    one = sent(importer, b"".join(subscriptions(count, now)), "subscriptions")
    process, began, sizes = psutil.Process(os.getpid()), time.monotonic(), []
    with club.app.app_context():
        job, running = begun(one)
        for number, batch in enumerate(run.batches(running, file_store())):
            run._write(job, running, batch)
            if number in (2, 10, 50):
                # As autovacuum does, which tests have off: else foreign keys are checked as of an empty table.
                club.make.rows("analyze; select 1 as one")
            if count == MANY:
                gc.collect()
            sizes.append(process.memory_info().rss)
    rate = count / (time.monotonic() - began)
    print(f"{count} subscriptions: {rate:.0f} rows a second, {(sizes[-1] - sizes[0]) / 2**20:.1f} MiB more at the end")
    assert sizes[-1] - sizes[0] < 48 * 2**20
    (found,) = club.make.rows(
        "select count(*) as count, count(distinct user_id) as members, min(status) as least, max(status) as most,"
        " count(*) filter (where next_charge_at = current_period_end and next_action_at = current_period_end"
        " and next_action_at > now()) as due from subscriptions"
    )
    assert (found.count, found.members, found.least, found.most, found.due) == (count, count, "active", "active", count)
    days = club.make.rows(
        "select current_period_end as end, count(*) as count from subscriptions group by 1 order by 1"
    )
    assert [row.end for row in days] == [now + timedelta(days=day) for day in range(1, 29)]
    club.renew()
    for table in ("payments", "invoices", "email_sends"):
        assert club.make.rows(f"select from {table}") == []
