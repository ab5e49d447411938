"""What the routes of reports are tried with."""

from typing import Any

from dues.ids import new_id
from dues.reports.files import file_store
from tests.api.samples.declared import Row, Samples, Target


def _finished_report(target: Target) -> Row:
    world, report = target.world, new_report(target)
    key = f"reports/{report['id']}/1"
    with world.app.app_context(), file_store().create(key) as draft:
        draft.write(b"id\n")
        file = {"status": "succeeded", "file_key": key, "rows": 0, "bytes": draft.size, "sha256": draft.sha256()}
    return world.make.insert("reports", report | file)


def new_report(target: Target) -> dict[str, Any]:
    return {
        "store_id": target.world.store.id,
        "id": new_id(),
        "requested_by": target.world.owner.id,
        "kind": "payments",
        "format": "csv",
        "range_from": "2026-01-01",
        "range_to": "2026-02-01",
    }


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/stores/{store_id}/reports                  reports:read   401 403 403 403 200 200 403 403
POST   /v1/stores/{store_id}/reports                  reports:write  401 403 403 403 202 202 403 403
GET    /v1/stores/{store_id}/reports/{report_id}      reports:read   401 403 403 403 200 200 403 403
GET    /v1/stores/{store_id}/reports/{report_id}/file reports:read   401 403 403 403 200 200 403 403
""",
    bodies={
        "POST /v1/stores/{store_id}/reports": {
            "kind": "payments",
            "format": "csv",
            "from": "2026-01-01T00:00:00Z",
            "to": "2026-02-01T00:00:00Z",
        },
    },
    reads=[
        "/v1/stores/{store_id}/reports",
        "/v1/stores/{store_id}/reports/{report_id}",
    ],
    finished=[
        "/v1/stores/{store_id}/reports/{report_id}",
    ],
    rows={"report_id": _finished_report},
)
