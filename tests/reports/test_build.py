"""Building: one snapshot, progress, cancellation, workers that die, and memory that does not grow with the rows."""

import csv
import errno
import signal
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace as Row

import psycopg2
import pytest

from dues.jobs import Canceled, LeaseLost
from dues.jobs.attempt import Run
from dues.jobs.exceptions import WORKER_LOST
from dues.jobs.lease import claim, take_back
from dues.postgres import transaction
from dues.reports.build import build_file
from dues.reports.files import Draft, file_store
from dues.reports.models import Report
from dues.reports.service import start_report
from tests.factory import Factory
from tests.reports.conftest import Reports
from tests.servers import Servers, wait_until
from workers.reports import build_report

Seen = list[tuple[int, int]]


@pytest.fixture
def store(make: Factory) -> Row:
    """A store with as many payments as are two batches."""
    store = make.store()
    users = [make.user(), make.user()]
    make.payments(store, 2000, users=users, packages=[make.package(store)], noted=False)
    return store


@pytest.fixture(autouse=True)
def every_batch_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dues.reports.build._PROGRESS_EVERY_S", 0.0)


def begun(reports: Reports, store: Row, kind: str = "payments", form: str = "csv") -> Report:
    row = reports.ask(store, kind, form)
    with transaction():
        return start_report(store.id, row.id)


def test_what_is_written_during_the_stream_does_not_show(make: Factory, reports: Reports, store: Row):
    before = make.rows("select id, amount, status from payments order by created_at, id")

    def interfere(completed: int, total: int) -> None:
        assert total == 2000
        if completed == 0:
            make.payment(store)
            make.rows("update payments set status = 'refunded', amount = 1")
            make.rows("update users set name = 'Somebody else'")
            make.rows("delete from payments where id = %(id)s", {"id": before[-1].id})

    report = begun(reports, store)
    built = build_file(report, file_store(), interfere)
    lines = b"".join(file_store().read(built.key, 0, built.bytes)).decode().splitlines()
    assert built.rows == 2000
    read = [(row["id"], int(row["amount"]), row["status"]) for row in csv.DictReader(lines)]
    assert read == [(str(row.id), row.amount, row.status) for row in before]
    assert "Somebody else" not in "".join(lines)


@pytest.mark.parametrize("form", ["csv", "json", "xlsx"])
def test_progress_counts_rows_up_to_all_of_them(reports: Reports, store: Row, form: str):
    seen: Seen = []
    build_file(begun(reports, store, form=form), file_store(), lambda *progress: seen.append(progress))
    assert seen == [(0, 2000), (1000, 2000), (2000, 2000), (2000, 2000)]


@pytest.mark.parametrize(("kind", "form"), [("payments", "csv"), ("payments", "xlsx"), ("revenue", "pdf")])
def test_a_canceled_report_leaves_no_file_and_no_statement(
    make: Factory, reports: Reports, store: Row, monkeypatch: pytest.MonkeyPatch, kind: str, form: str
):
    report = reports.ask(store, kind, form)

    def cancel_after_a_batch(run: Run, completed: int, total: int, unit: str) -> None:
        assert unit == "rows"
        if completed:
            raise Canceled

    monkeypatch.setattr(Run, "progress", cancel_after_a_batch)
    report = reports.build(report)
    assert (reports.job(report).status, report.status, report.file_key) == ("canceled", "canceled", None)
    assert not reports.folder(report).exists()
    wait_until(lambda: not copying(make), what="the end of the statement")


def copying(make: Factory) -> list[Row]:
    return make.rows("select pid from pg_stat_activity where datname = current_database() and query ilike 'copy%%'")


def test_canceling_in_the_middle_is_seen_at_the_next_progress(
    make: Factory, reports: Reports, store: Row, tmp_path: Path
):
    report = reports.ask(store)
    process = reports.process(report, tmp_path, DUES_FAILPOINTS=f"report.after_batch=stop:{marker(reports, report)}")
    wait_until(lambda: reports.row(report.id).status == "running", 30, "the worker to begin")
    stopped = marker(reports, report)
    wait_until(stopped.exists, what="the first batch")
    # A job asks whether it was canceled when it writes its progress, at most twice a second.
    wait_until(lambda: time.time() - stopped.stat().st_mtime > 0.6, what="the next report of progress to be due")
    make.rows("update jobs set cancel_requested_at = now(), version = version + 1 where status = 'running'")
    process.send_signal(signal.SIGCONT)
    assert process.wait(20) == 0
    report = reports.row(report.id)
    assert (reports.job(report).status, report.status) == ("canceled", "canceled")
    assert not reports.folder(report).exists()


def marker(reports: Reports, report: Row) -> Path:
    return reports.folder(report).parents[2] / f"{report.id}.marker"


def test_a_worker_killed_in_the_middle_leaves_it_to_the_next_who_gives_a_whole_file(
    make: Factory, reports: Reports, store: Row, tmp_path: Path
):
    report = reports.ask(store)
    process = reports.process(report, tmp_path, DUES_FAILPOINTS=f"report.after_batch=kill:{marker(reports, report)}")
    assert process.wait(20) == -signal.SIGKILL
    (part,) = reports.folder(report).glob("*.part")
    killed = reports.row(report.id)
    assert (killed.status, killed.file_key) == ("running", None)
    make.rows("update jobs set lease_until = clock_timestamp() - interval '1 ms'")
    report = reports.build(report)
    lines = reports.content(report).decode().splitlines()
    expected = make.rows("select id from payments order by created_at, id")
    assert [line.partition(",")[0] for line in lines] == ["id", *(str(row.id) for row in expected)]
    assert (report.rows, reports.job(report).attempt) == (2000, 2)
    assert [file.name for file in reports.folder(report).iterdir()] == [Path(report.file_key).name]
    assert not part.exists()


def test_a_worker_taken_for_dead_changes_nothing(make: Factory, reports: Reports, store: Row):
    report = reports.ask(store)
    first = reports.claimed(report)
    finished: list[Row] = []

    def overtake(completed: int, total: int, unit: str) -> None:
        if not finished:
            make.rows("update jobs set lease_until = clock_timestamp() - interval '1 ms'")
            finished.append(reports.build(report))

    first.progress = overtake  # type: ignore[method-assign]
    with pytest.raises((LeaseLost, FileNotFoundError)):
        build_report(first, **first.args)
    assert reports.row(report.id).__dict__ == finished[0].__dict__
    assert len(reports.content(finished[0]).splitlines()) == 2001
    assert [file.name for file in reports.folder(report).iterdir()] == [Path(finished[0].file_key).name]


def test_a_completion_that_comes_too_late_takes_its_file_with_it(make: Factory, reports: Reports, store: Row):
    report = reports.ask(store)
    late = reports.claimed(report)

    def lose_the_lease_at_the_end(completed: int, total: int, unit: str) -> None:
        if completed == total:
            make.rows("update jobs set lease_until = clock_timestamp() - interval '1 ms'")
            assert take_back(report.job_id, WORKER_LOST) == "queued"
            assert claim([report.job_id], "another")

    late.progress = lose_the_lease_at_the_end  # type: ignore[method-assign]
    with pytest.raises(LeaseLost):
        build_report(late, **late.args)
    assert reports.row(report.id).status == "running"
    assert list(reports.folder(report).iterdir()) == []


def test_a_report_that_fails_for_good_is_failed(
    make: Factory, reports: Reports, store: Row, monkeypatch: pytest.MonkeyPatch
):
    def no_space(draft: Draft, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Draft, "write", no_space)
    report = reports.ask(store)
    report = reports.build(report)
    assert (report.status, reports.job(report).status) == ("running", "queued")
    make.rows("update jobs set max_attempts = attempt + 1, run_at = now()")
    report = reports.build(report)
    assert (report.status, reports.job(report).status) == ("failed", "failed")
    assert not reports.folder(report).exists()


def watch_progress(reports: Reports, report: Row, running: Callable[[], bool]) -> list[dict[str, int]]:
    """What the status showed while a worker built the report, each once."""
    shown: list[dict[str, int]] = []
    while running():
        progress = reports.job(report).progress
        if progress and progress not in shown:
            shown.append(progress)
        # Leave the processor to the worker.
        time.sleep(0.05)
    shown.append(reports.job(report).progress)
    return shown


@pytest.mark.parametrize(
    "count",
    [
        20_000,
        pytest.param(50_000, marks=pytest.mark.wide),
        pytest.param(1_000_000, marks=[pytest.mark.large, pytest.mark.timeout(600)]),
    ],
)
def test_a_large_report_is_whole_and_its_worker_stays_small(
    make: Factory, reports: Reports, servers: Servers, tmp_path: Path, count: int
):
    store = make.store()
    users = [make.user() for _ in range(20)]
    packages = [make.package(store) for _ in range(5)]
    make.payments(store, count, users=users, packages=packages, noted=False)
    report = reports.ask(store)
    process = reports.process(report, tmp_path)
    shown = watch_progress(reports, report, lambda: process.poll() is None)
    output = (tmp_path / "stdout").read_text()
    report = reports.row(report.id)
    assert report.status == "succeeded"

    assert [b["completed"] >= a["completed"] for a, b in pairwise(shown)] == [True] * (len(shown) - 1)
    assert {progress["total"] for progress in shown} == {count}
    assert shown[-1]["completed"] == report.rows == count

    columns = ("id", "amount", "status", "user_id")
    expected = tmp_path / "expected.csv"
    with closing(psycopg2.connect(servers.database_url)) as connection, expected.open("w") as file:
        query = f"select {', '.join(columns)} from payments order by created_at, id"
        connection.cursor().copy_expert(f"copy ({query}) to stdout (format csv)", file)
    with expected.open() as wanted, (reports.folder(report) / Path(report.file_key).name).open() as written:
        pairs = zip(csv.reader(wanted), csv.DictReader(written), strict=True)
        equal = sum(row == [found[name] for name in columns] for row, found in pairs)
    assert equal == count
    before, after = map(int, output.split())
    # It takes six more whatever there is; each row would take a kilobyte, were they kept.
    assert after - before < 16 * 1024, f"{before // 1024} MiB, then {after // 1024}"
    assert after < 128 * 1024, f"{after // 1024} MiB"
