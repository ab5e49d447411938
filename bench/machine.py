"""What the benchmarks ran on: processor, versions, and which core is used for what."""

import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

# The server under test has one core and the load another. PostgreSQL and Redis run on any core, as if they had a
# machine of their own.
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]


def pinned(core: int, argv: list[str]) -> list[str]:
    """`argv`, to be run on one core."""
    return ["taskset", "-c", str(core), *argv]


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Processes that are started in the block run on one core, and so do their children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe(postgres_version: str, redis_version: str) -> dict[str, str]:
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    names = ("Flask", "gunicorn", "uvloop", "SQLAlchemy", "psycopg2-binary", "redis", "rq")
    return {
        "processor": f"{cpu}, {len(CORES)} cores",
        "system": platform.platform(),
        "Python": platform.python_version(),
        "PostgreSQL": postgres_version,
        "Redis": redis_version,
        "wrk": _wrk_version(),
        # If it exceeds the number of cores, other work was running too, and even ratios are less reliable.
        "load average": f"{os.getloadavg()[0]:.1f}",
        **{name: version(name) for name in names},
    }


def _wrk_version() -> str:
    if not shutil.which("wrk"):
        return "none"
    answer = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False)
    return (answer.stdout + answer.stderr).split("[")[0].replace("wrk", "").strip()
