"""A disk that takes no files is left alone for a while; reports are built later, by themselves or by hand."""

import errno
import os
from collections.abc import Iterator
from datetime import timedelta

import pytest

from dues import breaker
from dues.clock import now
from dues.jobs import admin as operations
from dues.postgres import transaction
from dues.reports.files import Draft
from tests.factory import Factory
from tests.reports.conftest import Reports


@pytest.fixture(autouse=True)
def no_circuit_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(breaker, "_trusted_until", {})


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A disk without room, until `undo()`."""

    def refuse(draft: Draft, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Draft, "write", refuse)
        yield patch


def rested(make: Factory) -> None:
    """The time for which anything was to be left alone is over."""
    make.rows("update jobs set run_at = now() where status = 'queued'")
    make.rows("update circuit_breakers set open_until = now() - interval '1 ms' where open_until is not null")


@pytest.mark.parametrize("form", ["csv", "xlsx", "json"])
def test_a_report_is_built_once_there_is_room(make: Factory, reports: Reports, full: pytest.MonkeyPatch, form: str):
    store = make.store()
    make.payment(store)
    report = reports.ask(store, form=form)
    reports.build(report)
    job = reports.job(report)
    assert (job.status, job.attempt, job.error["type"]) == ("queued", 1, "/problems/files_unavailable")
    assert job.run_at - now() == pytest.approx(timedelta(seconds=60), abs=timedelta(seconds=5))
    assert list(reports.folder(report).iterdir()) == []
    full.undo()
    rested(make)
    assert reports.content(reports.build(report))
    assert make.rows("select * from circuit_breakers") == []


def test_a_disk_that_takes_nothing_is_left_alone_at_no_cost_of_attempts(
    make: Factory, reports: Reports, full: pytest.MonkeyPatch
):
    store = make.store()
    for _ in range(3):
        reports.build(reports.ask(store))
    (circuit,) = make.rows("select * from circuit_breakers")
    assert (circuit.name, circuit.failures) == ("files", 3)
    report = reports.ask(store)
    reports.build(report)
    job = reports.job(report)
    assert (job.status, job.attempt, job.waits_for) == ("queued", 0, "files")


def test_a_report_fails_in_the_end_and_an_operator_has_it_tried_again(
    make: Factory, reports: Reports, full: pytest.MonkeyPatch
):
    store = make.store()
    make.payment(store)
    report = reports.ask(store)
    for _ in range(reports.job(report).max_attempts):
        rested(make)
        reports.build(report)
    assert (reports.row(report.id).status, reports.job(report).status) == ("failed", "failed")
    assert not reports.folder(report).exists()
    full.undo()
    rested(make)
    with transaction():
        operations.retry(report.job_id)
    assert len(reports.content(reports.build(report)).splitlines()) == 2
    assert (reports.job(report).status, reports.job(report).attempt) == ("succeeded", 1)
