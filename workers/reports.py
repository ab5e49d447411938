"""The job that builds a report's file."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID

from dues.breaker import Circuit
from dues.errors import Unavailable
from dues.jobs import LeaseLost, Retry, Run, kinds
from dues.postgres import transaction
from dues.reports.build import build_file
from dues.reports.files import FileStore, file_store
from dues.reports.service import finish_report, start_report
from dues.reports.snapshot import is_settled
from workers.job import job

log = logging.getLogger("dues.reports")

# The wait before the second attempt, in seconds, doubled before each further one: five attempts leave a quarter of an
# hour to make room on a full disk.
_AGAIN_S = 60.0
_SETTLING_S = 3.0


class FilesUnavailable(Unavailable):
    """The file store took no file."""

    code = "files_unavailable"


@job(kinds.REPORT_BUILD)
def build_report(run: Run, store_id: str, report_id: str) -> None:
    """Build the report's file. May run twice: each attempt starts over with a new file, from a new snapshot."""
    with transaction():
        report = start_report(UUID(store_id), UUID(report_id))
    if not is_settled(report.range_to):
        raise Retry(_SETTLING_S, "the report's range has only just ended", charged=False)
    with _file_store(run) as files:
        built = build_file(report, files, partial(run.progress, unit="rows"))
    href = f"/v1/stores/{store_id}/reports/{report_id}/file"
    try:
        with run.completion({"href": href, "type": built.media_type}):
            finish_report(report, built)
    except LeaseLost:
        # The worker that has the job now writes a file of its own. It may have removed leftovers before this one was
        # written.
        files.delete(built.key)
        raise


@contextmanager
def _file_store(run: Run) -> Iterator[FileStore]:
    """The file store, behind a circuit breaker. Raises: Retry where it cannot take a file; while the circuit is open,
    that costs no attempt."""
    circuit = Circuit("files", threshold=3, first_s=15.0, longest_s=300.0)
    if circuit.wait_s():
        raise Retry(problem=FilesUnavailable("no files can be written at present"), waits_for=circuit.name)
    try:
        yield file_store()
    except FileNotFoundError:
        # Another attempt has taken over and removed the file of this one.
        raise
    except OSError as error:
        circuit.failed()
        log.error("job %s: its file could not be written: %s", run.job_id, error.strerror or type(error).__name__)
        raise Retry(_AGAIN_S * 2 ** (run.attempt - 1), FilesUnavailable("the file could not be written")) from error
    circuit.succeeded()
