"""Fixtures of the tests of reports."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace as Row
from uuid import UUID

import pytest
from flask import Flask

from dues.jobs import Run
from dues.jobs.exceptions import WORKER_LOST
from dues.jobs.lease import claim, take_back
from dues.postgres import transaction
from dues.reports.files import LocalFiles, file_store
from dues.reports.service import NewReport, request_report
from tests.factory import Factory
from tests.forks import Forked, start
from tests.reports.one_attempt import one_attempt
from tests.servers import Servers
from workers.job import attempt
from workers.reports import build_report

ALWAYS = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


class Reports:
    """Reports of a test: asked for, built by a worker, and looked at."""

    def __init__(self, make: Factory, servers: Servers) -> None:
        self._make = make
        self._servers = servers

    def ask(
        self,
        store: Row,
        kind: str = "payments",
        form: str = "csv",
        covers: tuple[datetime, datetime] = ALWAYS,
    ) -> Row:
        new = NewReport(kind=kind, format=form, range_from=covers[0], range_to=covers[1])  # type: ignore[arg-type]
        with transaction():
            report = request_report(store.id, store.owner_id, new)
        return self.row(report.id)

    def row(self, report_id: UUID) -> Row:
        return self._make.rows("select * from reports where id = %(id)s", {"id": report_id})[0]

    def job(self, report: Row) -> Row:
        return self._make.rows("select * from jobs where id = %(id)s", {"id": report.job_id})[0]

    def claimed(self, report: Row) -> Run:
        begun = claim([report.job_id], "tester")
        assert begun
        return Run(begun.claim, begun.lease)

    def build(self, report: Row) -> Row:
        """One attempt of a worker, in this process; the one before, if any, fell silent. Returns: the report then."""
        take_back(report.job_id, WORKER_LOST)
        begun = claim([report.job_id], "tester")
        assert begun
        attempt(begun.claim, Run(begun.claim, begun.lease), build_report)
        return self.row(report.id)

    def built(
        self, store: Row, kind: str = "payments", form: str = "csv", covers: tuple[datetime, datetime] = ALWAYS
    ) -> bytes:
        """The file of a new report."""
        return self.content(self.build(self.ask(store, kind, form, covers)))

    def content(self, report: Row) -> bytes:
        assert report.status == "succeeded", report.status
        return b"".join(file_store().read(report.file_key, 0, report.bytes))

    def folder(self, report: Row) -> Path:
        return self._servers.home / "files" / "reports" / str(report.id)

    def process(self, report: Row, folder: Path, **environ: str) -> Forked:
        """One attempt in a process of its own; it prints its peak memory before and after, in KiB."""
        return start(one_attempt, str(report.job_id), environ=self._servers.environ(**environ), folder=folder)


@pytest.fixture
def in_app(app: Flask) -> Iterator[Flask]:
    """The application, with its context."""
    with app.app_context():
        yield app


@pytest.fixture
def reports(in_app: Flask, make: Factory, servers: Servers) -> Reports:
    return Reports(make, servers)


@pytest.fixture
def files(tmp_path: Path) -> LocalFiles:
    return LocalFiles(os.path.join(tmp_path, "files"))
