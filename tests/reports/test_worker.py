"""A report built by real processes: relay, worker, and the process that the worker forks for it."""

from pathlib import Path

import pytest

from tests.factory import Factory
from tests.reports.conftest import Reports
from tests.servers import wait_until
from tests.workers.conftest import Processes, children, processes

__all__ = ["processes"]


@pytest.mark.parametrize("whole_worker", [False, pytest.param(True, marks=pytest.mark.wide)])
def test_killed_in_the_middle_it_is_resumed_and_whole(
    make: Factory, reports: Reports, processes: Processes, tmp_path: Path, whole_worker: bool
):
    store = make.store()
    make.payments(store, 3000, users=[make.user()])
    report = reports.ask(store)
    marker = tmp_path / "marker"
    action = "stop" if whole_worker else "kill"
    environ = {"DUES_FAILPOINTS": f"report.after_batch={action}:{marker}"}
    _, workers = processes.start_both("slow:1", **environ)
    wait_until(marker.exists, 20, "the first batch")
    if whole_worker:
        for member in reversed(children(workers)):
            member.kill()
    wait_until(lambda: reports.row(report.id).status == "succeeded", 20, "the report")
    job = reports.job(report)
    assert (job.status, job.attempt) == ("succeeded", 2)
    lines = reports.content(reports.row(report.id)).decode().splitlines()
    expected = make.rows("select id from payments order by created_at, id")
    assert [line.partition(",")[0] for line in lines] == ["id", *(str(row.id) for row in expected)]
    assert len(list(reports.folder(report).iterdir())) == 1
