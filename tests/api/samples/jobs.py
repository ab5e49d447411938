"""What the routes of jobs are tried with."""

from dues.ids import new_id
from tests.api.samples.declared import Row, Samples, Target
from tests.api.samples.reports import new_report


def _job_of_a_report(target: Target) -> Row:
    world = target.world
    report = world.make.insert("reports", new_report(target))
    job = {
        "id": new_id(),
        "kind": "report.build",
        "queue": "slow",
        "cancelable": True,
        "args": {"store_id": str(report.store_id), "report_id": str(report.id)},
        "owner_id": world.customer.id,
        "store_id": world.store.id,
    }
    return world.make.insert("jobs", job)


SAMPLES = Samples(
    access="""
#                                                       nobody oth cus sup man own unscoped elsewhere
GET    /v1/jobs                                       jobs:read      401 200 200 200 200 200 403 200
GET    /v1/jobs/{job_id}                              jobs:read      401 404 200 404 200 200 403 403
GET    /v1/jobs/{job_id}/events                       jobs:read      401 404 200 404 200 200 403 403
DELETE /v1/jobs/{job_id}                              jobs:write     401 404 200 404 200 200 403 403
""",
    rows={"job_id": _job_of_a_report},
)
