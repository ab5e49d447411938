"""The job that does an import."""

import logging
from uuid import UUID

from dues.errors import InvalidTransition, Unavailable
from dues.imports.refusals import write_refusals
from dues.imports.run import run_import
from dues.imports.service import finish_import, start_import
from dues.jobs import LeaseLost, PermanentFailure, Retry, Run, kinds
from dues.postgres import transaction
from dues.reports.files import file_store
from workers.job import job

log = logging.getLogger("dues.imports")

_AGAIN_S = 60.0


class FilesUnavailable(Unavailable):
    """The file store gave, or took, no file."""

    code = "files_unavailable"


@job(kinds.IMPORT_RUN)
def run(run: Run, store_id: str, import_id: str) -> None:
    """Safe to run twice: each batch commits with the position that it has come to, and whoever does not find the import
    where they left it stops."""
    store, one_id, files = UUID(store_id), UUID(import_id), file_store()
    try:
        with transaction():
            one = start_import(store, one_id)
    except InvalidTransition as ended:
        raise PermanentFailure(ended) from None
    try:
        rows = run_import(run, one, files)
        file = write_refusals(store, one_id, files)
    except OSError as error:
        log.error("job %s: a file could not be used: %s", run.job_id, error.strerror or type(error).__name__)
        raise Retry(_AGAIN_S, FilesUnavailable("the files cannot be used at present")) from error
    run.progress(rows, rows, "rows")
    href = f"/v1/stores/{store_id}/imports/{import_id}/file"
    try:
        with run.completion({"href": href, "type": "text/csv"}):
            finish_import(store, one_id, file)
    except LeaseLost:
        # The worker that has the job now writes its own file.
        files.delete(file.key)
        raise
