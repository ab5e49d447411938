"""A report's status, which changes in one place, and the name of its file."""

from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace as Row
from zoneinfo import ZoneInfo

import pytest

from dues.errors import InvalidTransition, NotFound
from dues.ids import new_id
from dues.jobs import service as jobs
from dues.jobs.on_failure import Ending, announce
from dues.postgres import transaction, unit_of_work
from dues.reports.build import BuiltFile
from dues.reports.downloads import range_name
from dues.reports.files import file_store, report_key
from dues.reports.service import SOURCES, finish_report, start_report
from tests.factory import Factory
from tests.reports.conftest import Reports

FILE = BuiltFile("reports/x/y.csv", "text/csv", 3, 100, "0" * 64)


@pytest.fixture
def store(make: Factory) -> Row:
    return make.store()


def test_a_report_and_its_job_succeed_together(reports: Reports, store: Row):
    report = reports.build(reports.ask(store))
    job = reports.job(report)
    assert (report.status, job.status) == ("succeeded", "succeeded")
    assert job.result == {"href": f"/v1/stores/{store.id}/reports/{report.id}/file", "type": "text/csv"}
    assert report.bytes == len(reports.content(report))
    assert job.progress["completed"] == job.progress["total"] == report.rows == 0
    assert report.version == 3


@pytest.mark.parametrize("form", ["csv", "json", "xlsx", "pdf"])
def test_the_result_names_the_type(reports: Reports, store: Row, form: str):
    job = reports.job(reports.build(reports.ask(store, "revenue", form)))
    types = {
        "csv": "text/csv",
        "json": "application/json",
        "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "pdf": "application/pdf",
    }
    assert job.result["type"] == types[form]


def test_canceling_the_queued_job_cancels_the_report(reports: Reports, store: Row):
    report = reports.ask(store)
    with transaction():
        assert jobs.cancel(report.job_id) == "canceled"
    assert reports.row(report.id).status == "canceled"


def test_an_ended_job_ends_its_report_and_what_was_written_of_it(reports: Reports, store: Row):
    report = reports.ask(store)
    with transaction():
        start_report(store.id, report.id)
    with file_store().create(report_key(report.id, "csv")) as draft:
        draft.write(b"x")
    args = {"store_id": str(store.id), "report_id": str(report.id)}
    with transaction():
        announce(Ending(report.job_id, "report.build", args, "failed", {}))
    assert reports.row(report.id).status == "failed"
    assert not reports.folder(report).exists()


def test_a_report_that_failed_can_be_tried_again(reports: Reports, store: Row, make: Factory):
    report = reports.ask(store)
    make.rows("update reports set status = 'failed'")
    with transaction():
        start_report(store.id, report.id)
    assert reports.row(report.id).status == "running"


@pytest.mark.parametrize("status", ["succeeded", "canceled"])
def test_a_report_that_has_ended_stays_as_it_is(reports: Reports, store: Row, make: Factory, status: str):
    report = reports.ask(store)
    make.rows("update reports set status = %(status)s", {"status": status})
    with pytest.raises(InvalidTransition), transaction():
        start_report(store.id, report.id)
    assert reports.row(report.id).status == status
    assert all(status not in sources for sources in SOURCES.values())


def test_only_a_running_report_can_succeed(reports: Reports, store: Row):
    report = reports.ask(store)
    with transaction():
        running = start_report(store.id, report.id)
    with transaction():
        finish_report(running, FILE)
    assert reports.row(report.id).status == "succeeded"
    with pytest.raises(InvalidTransition), transaction():
        finish_report(running, FILE)
    with pytest.raises(NotFound), transaction():
        start_report(store.id, new_id())


def test_every_change_touches_the_list_of_reports(reports: Reports, store: Row):
    report = reports.ask(store)
    with transaction():
        start_report(store.id, report.id)
        assert f"store:{store.id}:reports" in unit_of_work().tags


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("start", "end", "name"),
    [
        ("2026-01-01T00:00Z", "2027-01-01T00:00Z", "2026"),
        ("2026-01-01T00:00Z", "2026-02-01T00:00Z", "2026-01"),
        ("2026-12-01T00:00Z", "2027-01-01T00:00Z", "2026-12"),
        ("2026-01-05T00:00Z", "2026-01-06T00:00Z", "2026-01-05"),
        ("2026-01-05T10:00Z", "2026-01-05T12:00Z", "2026-01-05"),
        ("2026-01-01T00:00Z", "2026-03-01T00:00Z", "2026-01-01-to-2026-02-28"),
        ("2026-01-01T00:00Z", "2026-01-31T23:59Z", "2026-01-01-to-2026-01-31"),
        ("2025-06-01T00:00Z", "2026-06-01T00:00Z", "2025-06-01-to-2026-05-31"),
    ],
)
def test_a_range_is_named_as_people_call_it(start: str, end: str, name: str):
    assert range_name(moment(start), moment(end), UTC) == name
    elsewhere = timezone(timedelta(hours=-5))
    assert range_name(moment(start).astimezone(elsewhere), moment(end).astimezone(elsewhere), UTC) == name
    for zone in map(ZoneInfo, ("Asia/Tokyo", "America/Los_Angeles", "Australia/Lord_Howe")):
        first, last = (moment(text).replace(tzinfo=zone).astimezone(UTC) for text in (start, end))
        assert range_name(first, last, zone) == name
