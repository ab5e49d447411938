"""The job that builds a report's file."""

from functools import partial
from uuid import UUID

from dues.db import transaction
from dues.jobs import LeaseLost, Run, kinds
from dues.reports.build import build_file
from dues.reports.files import file_store
from dues.reports.service import finish_report, start_report
from workers.job import job


@job(kinds.REPORT_BUILD)
def build_report(run: Run, store_id: str, report_id: str) -> None:
    """Safe to run twice: each attempt starts over with a file of its own, from a new snapshot."""
    with transaction():
        report = start_report(UUID(store_id), UUID(report_id))
    files = file_store()
    built = build_file(report, files, partial(run.progress, unit="rows"))
    href = f"/v1/stores/{store_id}/reports/{report_id}/file"
    try:
        with run.completion({"href": href, "type": built.media_type}):
            finish_report(report, built)
    except LeaseLost:
        # Whoever has the job now writes a file of its own, and may have looked for leftovers before this one was there.
        files.delete(built.key)
        raise
