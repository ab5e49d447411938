"""One attempt at building a report, in a process of its own."""

import re
from pathlib import Path
from uuid import UUID

from dues.jobs import Run
from dues.jobs.lease import claim
from workers.app import create_worker_app
from workers.job import attempt
from workers.reports import build_report


def peak() -> int:
    """In KiB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def one_attempt(job_id: str) -> None:
    """Prints the process's peak memory in KiB, before and after."""
    with create_worker_app().app_context():
        before = peak()
        begun = claim([UUID(job_id)], "a process of its own")
        assert begun
        attempt(begun.claim, Run(begun.claim, begun.lease), build_report)
    print(before, peak())
