"""A CSV report of payments, compared with `psql \\copy` of the same query to the same disk.

Dues is timed from the commit that requests the report until its job has succeeded: relay, claim, fork, and the lines
through Python into a file that is hashed and synced to disk. psql is timed from its start to its end. Both use the same
core; PostgreSQL runs both queries with the same plan.
"""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg2

from bench.data import Data
from bench.jobs_processes import PausableProcess, relay, resumed, started_paused, wait_until
from bench.machine import SERVER_CORE, pinned
from bench.report import Suite
from bench.rounds import Figure, Goal, interleave
from bench.servers import HOME
from config import load_settings
from dues.postgres import transaction
from dues.reports.formats.csv import CSVDocument
from dues.reports.rows import PAYMENTS
from dues.reports.service import NewReport, request_report
from local.postgres import _wheel
from workers.app import create_worker_app

_MIB = 1024 * 1024
_ASK = NewReport(
    kind="payments",
    format="csv",
    range_from=datetime(2000, 1, 1, tzinfo=UTC),
    range_to=datetime(2100, 1, 1, tzinfo=UTC),
)
_STORE = "select id::text, owner_id::text from stores order by created_at, id limit 1"
_OUTCOME = """
    select j.status, extract(epoch from j.finished_at)::float8, j.error::text, r.rows, r.bytes
    from reports r join jobs j on j.id = r.job_id where r.store_id = %s and r.id = %s
"""
# The settings of dues/reports/snapshot.py and dues/postgres/sessions.py.
_SAME_PLAN = "-c work_mem=64MB -c enable_sort=off -c timezone=UTC -c jit=off"


class Reports:
    """Reports of the one store that has all the payments."""

    def __init__(self, data: Data, rows: int) -> None:
        self._rows = rows
        self._folder = HOME / "reports"
        environ = {**data.environ(), "FILES_DIR": str(self._folder / "files"), "WORKER_QUEUES": "slow:1"}
        self._database_url = data.database_url
        self._app = create_worker_app(load_settings(environ))
        self._connection = psycopg2.connect(data.database_url)
        self._connection.autocommit = True
        store, owner = self._row(_STORE)
        self._store, self._owner = UUID(store), UUID(owner)
        self.worker = PausableProcess("workers-slow", [sys.executable, "-m", "workers.supervisor"], environ)
        self.relay = relay(data)
        self.peaks: list[float] = []
        self._bytes = 0

    def _row(self, sql: str, *values: object) -> tuple[Any, ...]:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            return cursor.fetchone() or ()

    @contextlib.contextmanager
    def _empty_folder(self) -> Iterator[Path]:
        self._folder.mkdir(parents=True)
        try:
            yield self._folder
        finally:
            shutil.rmtree(self._folder)

    def by_dues(self) -> float:
        """Rows per second."""
        with self._empty_folder(), resumed(self.worker, self.relay):
            with self._app.app_context(), transaction():
                report_id = request_report(self._store, self._owner, _ASK).id
            began, peak = time.time(), _Peak(self.worker.pid)
            outcome: tuple[Any, ...] = ("queued",)

            def is_over() -> bool:
                nonlocal outcome
                peak.look()
                outcome = self._row(_OUTCOME, str(self._store), str(report_id))
                return outcome[0] in ("succeeded", "failed")

            wait_until(is_over, "a report")
        status, ended, error, rows, self._bytes = outcome
        seconds: float = ended - began
        if status != "succeeded" or rows != self._rows:
            raise RuntimeError(f"a report {status} with {rows} rows: {error}")
        self.peaks.append(peak.bytes / _MIB)
        return self._rows / seconds

    def by_psql(self) -> float:
        """Rows per second."""
        values = {"store_id": str(self._store), "range_from": _ASK.range_from, "range_to": _ASK.range_to}
        with self._connection.cursor() as cursor:
            statement = cursor.mogrify(CSVDocument.copy(PAYMENTS), values).decode().replace("\n", " ")
        query, _, how = statement.removeprefix("copy ").rpartition(" to stdout ")
        with self._empty_folder() as folder:
            file = folder / "report.csv"
            copy = f"\\copy {query} to '{file}' {how}"
            argv = [str(_psql()), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", self._database_url, "-c", copy]
            env = {**os.environ, "PGOPTIONS": _SAME_PLAN}
            began = time.time()
            subprocess.run(pinned(SERVER_CORE, argv), env=env, check=True)
            ended = time.time()
            # The report begins with the titles of the columns, and ends each line by CRLF, where psql writes LF.
            heading = len(",".join(column.title for column in PAYMENTS.columns)) + 2
            size = file.stat().st_size + self._rows + heading
            if self._bytes and size != self._bytes:
                raise RuntimeError(f"psql wrote what makes a report of {size} bytes, the report has {self._bytes}")
        return self._rows / (ended - began)

    def close(self) -> None:
        self._connection.close()


class _Peak:
    """The peak resident memory, in bytes, of any process below the supervisor `pid`."""

    def __init__(self, pid: int) -> None:
        self._supervisor = psutil.Process(pid)
        self.bytes = 0

    def look(self) -> None:
        for process in self._supervisor.children(recursive=True):
            # The kernel keeps the peak, so it does not matter when it is read. A process that has just ended has no
            # peak.
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{process.pid}/status").read_text()
                peaks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
                self.bytes = max([self.bytes, *(int(peak) * 1024 for peak in peaks)])


def _psql() -> Path:
    return _wheel() / "bin" / "psql"


def measure(suite: Suite, data: Data, rounds: int, rows: int) -> None:
    """`data` has `rows` payments, all in one store."""
    with contextlib.closing(Reports(data, rows)) as reports, started_paused(reports.worker, reports.relay):
        contestants = {"Dues": reports.by_dues, "psql \\copy": reports.by_psql}
        figures = interleave(rounds, contestants, "rows/s")
    suite.table(f"A CSV report of {rows:,} payments", figures)
    peak = Figure("the worker's process, at its peak", "MiB", tuple(reports.peaks))
    suite.table("Memory of a report", {"peak": peak})
    ratio = figures["psql \\copy"].median / figures["Dues"].median
    suite.goal(Goal("report's time / psql \\copy's", ratio, 1.3, at_most=True))
    suite.goal(Goal("a report's memory / 128 MiB", max(reports.peaks) / 128, 1, at_most=True))
