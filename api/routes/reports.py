"""Reports: asked for, followed and downloaded by a store's managers."""

from uuid import UUID

from api.downloads import FILE_PARAMETERS, download, file_responses
from api.reply import Reply
from api.routing import Call, Routes
from dues.reads import ReadPlan
from dues.reads.resource import Scope
from dues.reports import service
from dues.reports.downloads import get_file
from dues.reports.files import file_store
from dues.reports.formats import FORMATS
from dues.reports.reads import reports
from dues.reports.service import NewReport

routes = Routes(
    "reports",
    examples={
        "format": "csv",
        "rows": 340,
    },
)
LIST, ONE = "/v1/stores/{store_id}/reports", "/v1/stores/{store_id}/reports/{report_id}"

_MEDIA_TYPES = [document.media_type for document in FORMATS.values()]


@routes.get(LIST, "reports:read", role="manager", lists=reports)
def list_reports(call: Call, store_id: UUID) -> ReadPlan:
    return call.list(reports, {"store_id": store_id})


def _report(call: Call, report_id: UUID) -> Scope:
    return {"store_id": call.ids["store_id"], "id": report_id}


@routes.post(LIST, "reports:write", role="manager", body=NewReport, returns=reports, slow=_report, statuses=(202, 201))
def request_report(call: Call, store_id: UUID) -> Reply:
    """Ask for a report

    `revenue` has a row for each month, package and currency: what was paid in that month, what was given back in it,
    and the net of both. `payments` has a row for each payment and each refund; the sum of its `net` is the net of the
    range. A payment stands under its `paid_at` (while it is not paid: under its `created_at`), a refund under its
    `settled_at`; months are those of the store's time zone. A refund that the payer's bank sent back stays in its
    month, and is taken back in the month in which that happened (of `payments` a row of type `returned_refund`). What
    banks took back in disputes is in the `ledger` alone.
    """
    report = service.request_report(store_id, call.actor.user_id, call.data)
    assert report.job_id
    return call.accepted(report.id, report.job_id)


@routes.get(ONE, "reports:read", role="manager", reads=reports)
def get_report(call: Call, store_id: UUID, report_id: UUID) -> ReadPlan:
    return call.one(reports, {"store_id": store_id, "id": report_id})


@routes.get(
    f"{ONE}/file",
    "reports:read",
    role="manager",
    statuses=(200, 206),
    responses=file_responses(*_MEDIA_TYPES),
    parameters=FILE_PARAMETERS,
)
def download_report(call: Call, store_id: UUID, report_id: UUID) -> Reply:
    return download(file_store(), get_file(store_id, report_id), call.request)
