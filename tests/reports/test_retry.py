"""A report that failed for want of room on the disk is built when an operator has it tried again."""

import errno
import os

import pytest

from dues.db import transaction
from dues.jobs import operations
from dues.reports.files import Draft
from tests.factory import Factory
from tests.reports.conftest import Reports


def test_a_full_disk_fails_a_report_until_there_is_room(
    make: Factory, reports: Reports, monkeypatch: pytest.MonkeyPatch
):
    store = make.store()
    make.payment(store)
    report = reports.ask(store)
    with monkeypatch.context() as full:
        full.setattr(Draft, "write", refuse)
        for _ in range(reports.job(report).max_attempts):
            make.rows("update jobs set run_at = now()")
            reports.build(report)
    assert (reports.row(report.id).status, reports.job(report).status) == ("failed", "failed")
    assert not reports.folder(report).exists()
    with transaction():
        operations.retry(report.job_id)
    assert len(reports.content(reports.build(report)).splitlines()) == 2
    assert (reports.job(report).status, reports.job(report).attempt) == ("succeeded", 1)


def refuse(draft: Draft, data: bytes) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
