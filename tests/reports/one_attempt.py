"""One attempt at building a report, in a process of its own: `python -m tests.reports.one_attempt <job id>`.

Prints the process's peak memory in KiB, before and after.
"""

import re
import sys
from pathlib import Path
from uuid import UUID

from dues.jobs import Run
from dues.jobs.lease import claim
from workers.app import create_worker_app
from workers.job import attempt
from workers.reports import build_report


def peak() -> int:
    """In KiB. Not ru_maxrss, in which the memory of the process that started this one counts."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1])


def main() -> None:
    with create_worker_app().app_context():
        before = peak()
        begun = claim([UUID(sys.argv[1])], "a process of its own")
        assert begun
        attempt(begun.claim, Run(begun.claim, begun.lease), build_report)
    print(before, peak())


if __name__ == "__main__":
    main()
