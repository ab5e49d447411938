"""What happens around a handler: each of its ends becomes the job's."""

import time
from datetime import datetime
from types import SimpleNamespace
from uuid import UUID

import pytest
from flask import Flask
from flask.testing import FlaskClient

from dues.failpoints import Armed, FailpointReached
from dues.jobs import Kind, Run, enqueue, kinds
from dues.observability.trace import current_trace, tracing
from dues.postgres import transaction
from tests.jobs.conftest import Jobs
from tests.servers import Servers
from tests.workers import deeds
from tests.workers.conftest import Notes
from workers import registry
from workers.app import create_worker_app
from workers.interrupts import Interrupts
from workers.job import HANDLERS, Declared, UndeclaredJob, check_declared, execute, job, perform, use_app


@pytest.fixture(autouse=True)
def _here(in_app: Flask) -> None:
    use_app(in_app)


def run(jobs: Jobs, job_id: UUID) -> None:
    """One attempt at a job."""
    execute(*jobs.claimed(job_id))


def test_what_a_handler_returns_is_the_jobs_result(jobs: Jobs, notes: Notes):
    job_id = jobs.add(deeds.NOTE, notes.args)
    run(jobs, job_id)
    row = jobs.row(job_id)
    assert (row.status, row.result, row.attempt) == ("succeeded", {"attempt": 1}, 1)


def test_a_delivery_too_many_does_nothing(jobs: Jobs, notes: Notes):
    for _ in range(3):
        jobs.add(deeds.NOTE, notes.args)
    assert [perform("default"), perform("default")] == [3, 0]
    assert notes.words() == ["done"] * 3


@pytest.mark.parametrize(
    ("how", "status", "detail", "wait_s"),
    [
        ("retry", "queued", "come back later", (29, 31)),
        ("permanent", "failed", "no use", (-1, 1)),
        ("unforeseen", "queued", "ConnectionError", (0.9, 3.1)),
    ],
)
def test_a_failed_attempt(jobs: Jobs, how: str, status: str, detail: str, wait_s: tuple[float, float]):
    job_id = jobs.add(deeds.FAIL, {"how": how})
    run(jobs, job_id)
    row = jobs.row(job_id)
    assert (row.status, row.attempt, row.error["detail"]) == (status, 1, detail)
    waits = (row.run_at - row.started_at).total_seconds()
    assert wait_s[0] < waits < wait_s[1]


def test_a_job_that_always_fails_fails_in_the_end(jobs: Jobs):
    job_id = jobs.add(deeds.FAIL, {"how": "unforeseen"})
    for status in ("queued", "queued", "failed"):
        jobs.change(job_id, "run_at = now()")
        run(jobs, job_id)
        assert jobs.row(job_id).status == status


def test_arguments_that_the_handler_does_not_take_fail_the_attempt(jobs: Jobs):
    job_id = jobs.add(deeds.NOTE, {"nonsense": 1})
    run(jobs, job_id)
    assert jobs.row(job_id).error["detail"] == "TypeError"


def test_a_kind_that_this_version_does_not_know_waits_as_long_as_it_takes(
    jobs: Jobs, caplog: pytest.LogCaptureFixture, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("workers.job._unknown_kinds", set())
    made = [jobs.add(Kind("test.from.the.future", "default", max_attempts=2)) for _ in range(2)]
    for _ in range(4):
        for job_id in made:
            jobs.change(job_id, "run_at = now(), due = true")
        assert perform("default") == 2
    for row in map(jobs.row, made):
        assert (row.status, row.attempt) == ("queued", 0)
        assert (row.run_at - row.started_at).total_seconds() > 20
    assert [record.levelname for record in caplog.records if "test.from.the.future" in record.message] == ["WARNING"]
    assert 'dues_queue_unknown_kinds{queue="default"} 2.0' in client.get("/metrics").text


def test_and_is_done_by_one_that_does(jobs: Jobs, client: FlaskClient, monkeypatch: pytest.MonkeyPatch):
    kind = Kind("test.from.the.future", "default")
    run(jobs, job_id := jobs.add(kind))
    monkeypatch.setitem(HANDLERS, kind.name, Declared(kind, lambda attempt: {"at": "last"}))
    jobs.change(job_id, "run_at = now(), due = true")
    assert perform("default") == 1
    row = jobs.row(job_id)
    assert (row.status, row.attempt, row.result, row.error) == ("succeeded", 1, {"at": "last"}, None)
    assert 'dues_queue_unknown_kinds{queue="default"} 0.0' in client.get("/metrics").text


def test_an_attempt_is_stopped_at_its_time_limit(jobs: Jobs):
    job_id = jobs.add(deeds.OVERTIME)
    began_at = time.monotonic()
    run(jobs, job_id)
    assert 0.9 < time.monotonic() - began_at < 5
    row = jobs.row(job_id)
    assert (row.status, row.error["type"]) == ("queued", "/problems/job_timed_out")


def test_a_handler_that_does_not_end_in_time_for_a_stop_is_given_back(jobs: Jobs, notes: Notes, monkeypatch):
    interrupts = Interrupts()
    monkeypatch.setattr("workers.job.interrupts", interrupts)
    job_id = jobs.add(deeds.WAIT, notes.args)
    interrupts.request_stop(drain_s=0.1)
    run(jobs, job_id)
    row = jobs.row(job_id)
    assert (row.status, row.attempt, row.error, row.due) == ("queued", 0, None, True)


def test_what_ends_in_time_is_finished_though_the_worker_stops(jobs: Jobs, notes: Notes, monkeypatch):
    interrupts = Interrupts()
    monkeypatch.setattr("workers.job.interrupts", interrupts)
    interrupts.request_stop(drain_s=10)
    run(jobs, job_id := jobs.add(deeds.NOTE, notes.args))
    assert jobs.row(job_id).status == "succeeded"


def test_a_running_job_ends_at_its_next_report_when_it_is_canceled(jobs: Jobs, notes: Notes, monkeypatch):
    job_id = jobs.add(deeds.WAIT, notes.args)
    # The deed's own `time`: the module's `sleep` is every thread's.
    asked = SimpleNamespace(
        monotonic=time.monotonic, sleep=lambda _: jobs.change(job_id, "cancel_requested_at = now()")
    )
    monkeypatch.setattr("tests.workers.deeds.time", asked)
    monkeypatch.setattr("dues.jobs.attempt._PROGRESS_EVERY_S", 0.0)
    run(jobs, job_id)
    row = jobs.row(job_id)
    assert (row.status, notes.words()) == ("canceled", ["began"])


def test_the_lease_is_renewed_beside_the_handler(jobs: Jobs, monkeypatch):
    """A handler that takes longer than its lease keeps the job, though it never calls us."""
    seen: list[datetime] = []

    def handler(attempt: Run) -> None:
        began = time.monotonic()
        while time.monotonic() < began + 2.6 or (len(set(seen)) < 3 and time.monotonic() < began + 20):
            time.sleep(0.05)
            row = jobs.row(attempt.job_id)
            seen.append(row.lease_until)
        assert len(set(seen)) >= 3

    kind = Kind("test.long", "default")
    monkeypatch.setitem(HANDLERS, kind.name, Declared(kind, handler))
    run(jobs, job_id := jobs.add(kind))
    assert jobs.row(job_id).status == "succeeded"


def test_a_handler_that_lost_its_lease_changes_nothing(jobs: Jobs, monkeypatch):
    def handler(attempt: Run) -> dict[str, str]:
        # As a claim does once the lease has run out; in one step, between which the lease cannot be renewed.
        jobs.change(attempt.job_id, "lease_token = gen_random_uuid(), attempt = attempt + 1")
        return {"by": "zombie"}

    kind = Kind("test.zombie", "default")
    monkeypatch.setitem(HANDLERS, kind.name, Declared(kind, handler))
    run(jobs, job_id := jobs.add(kind))
    row = jobs.row(job_id)
    assert (row.status, row.attempt, row.result) == ("running", 2, None)


def test_a_handler_that_fails_after_its_completion_has_succeeded(jobs: Jobs, monkeypatch):
    def handler(attempt: Run) -> None:
        with attempt.completion({"done": True}):
            pass
        raise RuntimeError("too late")

    kind = Kind("test.late", "default")
    monkeypatch.setitem(HANDLERS, kind.name, Declared(kind, handler))
    run(jobs, job_id := jobs.add(kind))
    assert jobs.row(job_id).result == {"done": True}


def test_jobs_that_a_job_enqueues_belong_to_its_trace(jobs: Jobs, monkeypatch):
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    kind = Kind("test.parent", "default")
    seen = []

    def handler(attempt: Run) -> None:
        with attempt.completion() as completion:
            child = enqueue(deeds.NOTE, {})
            completion.result = {"child": str(child)}
        seen.append(current_trace())

    monkeypatch.setitem(HANDLERS, kind.name, Declared(kind, handler))
    with transaction(), tracing(trace):
        job_id = enqueue(kind, {})
    run(jobs, job_id)
    assert seen == [trace]
    assert jobs.row(jobs.row(job_id).result["child"]).trace == trace


def test_nothing_escapes_from_a_delivery(jobs: Jobs, tmp_path, monkeypatch):
    armed = {"worker.after_claim": Armed("raise", f"{tmp_path}/m")}
    monkeypatch.setattr("dues.failpoints._armed", armed)
    with pytest.raises(FailpointReached):
        run(jobs, jobs.add(deeds.NOTE))
    (tmp_path / "m").unlink()
    job_id = jobs.add(deeds.NOTE)
    assert perform("default") == 1
    assert jobs.row(job_id).status == "running"


def test_a_claim_that_fails_is_no_job(jobs: Jobs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("dues.jobs.turns.begin", fail)
    jobs.add(deeds.NOTE)
    assert perform("default") == 0
    assert "no job of default could be claimed" in caplog.text


def test_a_kind_has_one_handler():
    with pytest.raises(RuntimeError, match="already has a handler: note"):
        job(deeds.NOTE)(lambda run: None)


def test_every_kind_has_a_handler_and_every_handler_a_kind():
    assert registry.MODULES
    check_declared(handlers={name: found for name, found in HANDLERS.items() if not name.startswith("test.")})


def test_what_does_not_agree_is_told_with_its_remedy():
    declared = Declared(deeds.NOTE, deeds.note)
    with pytest.raises(UndeclaredJob) as caught:
        check_declared(kinds={"a.b": kinds.PAYMENT_CHARGE}, handlers={"test.note": declared})
    assert "a.b is in dues/jobs/kinds.py but has no handler" in str(caught.value)
    assert "note is the handler of test.note, which is not in dues/jobs/kinds.py" in str(caught.value)


def test_the_app_is_one_with_connections_for_the_lease(servers: Servers):
    app = create_worker_app(servers.settings(db_pool_size=1))
    assert app.extensions["settings"].db_pool_size == 3
