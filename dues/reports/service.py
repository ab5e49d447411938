"""Asking for reports, and the place a report's status changes. Each function is part of its caller's transaction."""

import logging
from contextlib import suppress
from typing import Any, Literal
from uuid import UUID

from msgspec import Struct, field

from dues.clock import Moment
from dues.errors import Conflict, Fault, InvalidTransition, NotFound, ValidationFailed
from dues.events import EventType, emit
from dues.ids import new_id
from dues.jobs import kinds
from dues.jobs.on_failure import Ending, when_ended
from dues.jobs.outbox import enqueue
from dues.postgres import after_commit, db, fetch_row
from dues.postgres.constraints import take_turns
from dues.reads.tags import touch
from dues.reports.build import BuiltFile
from dues.reports.files import file_store, report_folder
from dues.reports.models import Report
from dues.reports.reads import reports
from dues.stores.models import Store

log = logging.getLogger("dues.reports")

# From which states a report may move to a state. Running again is the next attempt of a job that was interrupted; from
# `failed` an operator has it tried again.
SOURCES = {
    "running": ("pending", "running", "failed"),
    "succeeded": ("running",),
    "failed": ("pending", "running"),
    "canceled": ("pending", "running"),
}
_EVENTS: dict[str, EventType] = {
    "succeeded": "report.succeeded",
    "failed": "report.failed",
    "canceled": "report.canceled",
}
# Most reports of a store that wait or are being built.
MOST_UNFINISHED = 20
_UNFINISHED = "select count(*) from reports where store_id = %(store_id)s and status in ('pending', 'running')"
_YEARS = range(1970, 10_000)


class NewReport(Struct, forbid_unknown_fields=True):
    """A report of a store's `payments` and refunds, or of its `revenue` by month and package, each under the time at
    which money moved; of its `subscribers`, whose subscriptions ran in the range; or of its final `invoices` and credit
    notes, or its `ledger`, by when they were issued and booked. Only revenue comes as a PDF. `from` is inclusive, `to`
    exclusive; months are those of the store's time zone. `bom` puts a byte order mark in front of a CSV, by which Excel
    knows its encoding."""

    kind: Literal["payments", "revenue", "subscribers", "invoices", "ledger"]
    format: Literal["csv", "xlsx", "json", "pdf"]
    range_from: Moment = field(name="from")
    range_to: Moment = field(name="to")
    bom: bool = False


def request_report(store_id: UUID, requested_by: UUID, new: NewReport) -> Report:
    """A pending report, and the job that will build it.

    Raises: ValidationFailed; Conflict where too many of the store's reports are not built yet.
    """
    _check(new)
    take_turns("unfinished reports of a store", str(store_id))
    (unfinished,) = fetch_row(_UNFINISHED, {"store_id": store_id}) or (0,)
    if unfinished >= MOST_UNFINISHED:
        raise Conflict(f"{MOST_UNFINISHED} reports of this store are not built yet", code="too_many_unfinished")
    report = Report(
        store_id=store_id,
        id=new_id(),
        requested_by=requested_by,
        kind=new.kind,
        format=new.format,
        range_from=new.range_from,
        range_to=new.range_to,
        timezone=db.session.get_one(Store, store_id).timezone,
        bom=new.bom,
        status="pending",
    )
    report.job_id = enqueue(
        kinds.REPORT_BUILD,
        {"store_id": str(store_id), "report_id": str(report.id)},
        owner_id=requested_by,
        store_id=store_id,
    )
    db.session.add(report)
    touch(*_tags(report))
    return report


def _check(new: NewReport) -> None:
    faults = []
    if new.kind != "revenue" and new.format == "pdf":
        faults.append(Fault(code="choice", detail=f"{new.kind} come as csv, xlsx or json", pointer="#/format"))
    if new.bom and new.format != "csv":
        faults.append(Fault(code="conflict", detail="goes with csv", pointer="#/bom"))
    for name, moment in (("from", new.range_from), ("to", new.range_to)):
        if moment.year not in _YEARS:
            faults.append(Fault(code="range", detail="must be a time from 1970 to 9999", pointer=f"#/{name}"))
    if new.range_from >= new.range_to:
        faults.append(Fault(code="range", detail="must be later than from", pointer="#/to"))
    if faults:
        raise ValidationFailed.of_faults(faults)


def start_report(store_id: UUID, report_id: UUID) -> Report:
    """A worker begins, or begins again. Raises: NotFound; InvalidTransition for a report that has ended."""
    report = _get(store_id, report_id)
    _move(report, "running")
    return report


def finish_report(report: Report, file: BuiltFile) -> None:
    """Raises: InvalidTransition for a report that is not running."""
    report = _get(report.store_id, report.id)
    _move(report, "succeeded", file_key=file.key, rows=file.rows, bytes=file.bytes, sha256=file.sha256)


@when_ended(kinds.REPORT_BUILD)
def end_report(ending: Ending) -> None:
    """The job was canceled or has failed for good: so has the report, and nothing of it is kept."""
    report = _get(UUID(ending.args["store_id"]), UUID(ending.args["report_id"]))
    _move(report, ending.status)
    files, folder = file_store(), report_folder(report.id)

    def forget() -> None:
        with suppress(OSError):
            files.delete(folder)

    after_commit(forget)


def _get(store_id: UUID, report_id: UUID) -> Report:
    report = db.session.get(Report, (store_id, report_id), with_for_update=True, populate_existing=True)
    if report is None:
        raise NotFound("there is no such report")
    return report


def _move(report: Report, status: str, **values: Any) -> None:
    if report.status not in SOURCES[status]:
        raise InvalidTransition(f"a report that is {report.status} cannot become {status}")
    log.info("report %s: %s -> %s", report.id, report.status, status)
    report.status = status
    for name, value in values.items():
        setattr(report, name, value)
    if event_type := _EVENTS.get(status):
        emit(report.store_id, event_type, reports, {"store_id": report.store_id, "id": report.id})
    touch(*_tags(report))


def _tags(report: Report) -> tuple[str, ...]:
    return (f"store:{report.store_id}:reports",)
