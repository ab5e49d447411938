"""Following and canceling a job."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
import ujson
from flask import Flask

from dues.errors import Conflict, NotFound
from dues.ids import new_id
from dues.jobs import Ending, Kind, Run, when_ended
from dues.jobs import on_failure as endings
from dues.jobs.exceptions import WORKER_LOST, problem
from dues.jobs.lease import claim, take_back
from dues.jobs.service import cancel, find_moved, get_status
from dues.jobs.status import jobs as resource
from dues.postgres import transaction
from dues.reads import parse_query
from tests.factory import Factory
from tests.jobs.conftest import QUICK, Jobs

FIXED = Kind("test.fixed", "default")
ENDED = Kind("test.ended", "default", max_attempts=1, cancelable=True)


def document(job_id: UUID) -> dict[str, Any]:
    found: dict[str, Any] = ujson.loads(get_status(job_id).document)
    return found


def canceled(job_id: UUID) -> str:
    with transaction():
        return cancel(job_id)


def test_the_status_of_a_new_job(jobs: Jobs):
    job_id = jobs.add()
    found = document(job_id)
    assert found.pop("created_at") == found.pop("next_attempt_at")
    assert found == {
        "id": str(job_id),
        "kind": "test.quick",
        "status": "queued",
        "done": False,
        "attempt": 0,
        "max_attempts": 20,
        "started_at": None,
        "finished_at": None,
        "progress": None,
        "eta": None,
        "result": None,
        "error": None,
        "cancelable": True,
        "cancel_requested": False,
        "links": {"self": f"/v1/jobs/{job_id}", "events": f"/v1/jobs/{job_id}/events"},
    }


def test_the_status_while_it_runs_and_when_it_has_succeeded(jobs: Jobs):
    job_id = jobs.add()
    run = Run(*jobs.claimed(job_id))
    run.progress(340, 1000, "rows")
    found = document(job_id)
    assert (found["status"], found["attempt"], found["next_attempt_at"]) == ("running", 1, None)
    assert found["progress"] == {"completed": 340, "total": 1000, "unit": "rows", "percent": 34.0}
    run.complete({"href": "/v1/x", "type": "text/csv"})
    found = document(job_id)
    assert (found["status"], found["done"], found["cancelable"]) == ("succeeded", True, False)
    assert found["progress"]["percent"] == 100.0
    assert found["result"] == {"href": "/v1/x", "type": "text/csv"}
    assert found["finished_at"] >= found["started_at"] >= found["created_at"]


def test_an_eta_is_shown_while_it_runs(jobs: Jobs):
    job_id = jobs.add()
    run = Run(*jobs.claimed(job_id))
    jobs.change(job_id, """progress = '{"completed":1,"total":2,"unit":"rows","eta":"2026-11-20T12:00:40+00:00"}'""")
    assert document(job_id)["eta"] == "2026-11-20T12:00:40+00:00"
    run.lease.give_back()
    assert document(job_id)["eta"] is None


def test_an_error_is_shown_when_the_job_has_failed_and_not_before(jobs: Jobs):
    error = problem("bad", "Bad", 502, "it went wrong")
    job_id = jobs.add()
    _, lease = jobs.claimed(job_id)
    lease.give_back(error=error, after_s=0)
    assert document(job_id)["error"] is None
    _, lease = jobs.claimed(job_id)
    lease.give_back(error=error, final=True)
    assert document(job_id)["error"] == error


def test_nothing_to_do_is_all_done(jobs: Jobs):
    job_id = jobs.add()
    jobs.change(job_id, """progress = '{"completed":0,"total":0,"unit":"rows"}'""")
    assert document(job_id)["progress"]["percent"] == 100.0


def test_the_etag_is_the_version_and_changes_with_what_is_seen(jobs: Jobs):
    job_id = jobs.add()
    seen = [get_status(job_id)]
    run = Run(*jobs.claimed(job_id))
    seen.append(get_status(job_id))
    run.lease.renew()
    assert get_status(job_id) == seen[-1]
    run.progress(1, 2, "rows")
    seen.append(get_status(job_id))
    canceled(job_id)
    seen.append(get_status(job_id))
    run.lease.give_back(canceled=True)
    seen.append(get_status(job_id))
    assert [status.etag for status in seen] == ['"1"', '"2"', '"3"', '"4"', '"5"']
    assert [status.done for status in seen] == [False] * 4 + [True]
    assert len({status.document for status in seen}) == 5


def test_the_status_is_one_statement_and_says_whose_the_job_is(jobs: Jobs, make: Factory, queries):
    store, owner = make.store(), make.user()
    job_id = jobs.add(owner_id=owner.id, store_id=store.id)
    with queries() as seen:
        status = get_status(job_id, parse_query(resource, [("fields", "id,status")], one=True))
    assert len(seen) == 1, str(seen)
    assert (status.owner_id, status.store_id) == (owner.id, store.id)
    assert ujson.loads(status.document) == {"id": str(job_id), "status": "queued"}


def test_a_job_that_is_not_there(jobs: Jobs):
    with pytest.raises(NotFound):
        get_status(new_id())
    with pytest.raises(NotFound):
        canceled(new_id())


def test_a_queued_job_is_canceled_at_once_and_nobody_gets_it(jobs: Jobs):
    job_id = jobs.add()
    assert canceled(job_id) == "canceled"
    assert claim([job_id], "tester") is None
    assert canceled(job_id) == "canceled"
    assert document(job_id)["status"] == "canceled"


def test_a_running_job_is_asked_to_stop(jobs: Jobs):
    job_id = jobs.add()
    _, lease = jobs.claimed(job_id)
    assert canceled(job_id) == "requested"
    version = jobs.row(job_id).version
    assert canceled(job_id) == "requested"
    assert jobs.row(job_id).version == version
    assert document(job_id)["cancel_requested"]
    lease.renew()
    assert lease.cancel_requested
    lease.give_back(canceled=True)
    assert canceled(job_id) == "canceled"


@pytest.mark.parametrize("state", ["queued", "running", "succeeded"])
def test_what_cannot_be_canceled(jobs: Jobs, state: str):
    job_id = jobs.add(FIXED if state != "succeeded" else QUICK)
    if state != "queued":
        _, lease = jobs.claimed(job_id)
    if state == "succeeded":
        lease.complete(None, None)
    before = jobs.row(job_id)
    with pytest.raises(Conflict, match=state):
        canceled(job_id)
    assert jobs.row(job_id) == before


def test_canceling_and_claiming_at_once_agree_on_what_happened(in_app: Flask, jobs: Jobs):
    def in_thread(function: Callable[[UUID], Any], job_id: UUID, at_once: Barrier) -> Any:
        with in_app.app_context():
            at_once.wait()
            return function(job_id)

    with ThreadPoolExecutor(2) as threads:
        for _ in range(20):
            job_id, at_once = jobs.add(), Barrier(2)
            cancelling = threads.submit(in_thread, canceled, job_id, at_once)
            claiming = threads.submit(in_thread, lambda job_id: claim([job_id], "tester"), job_id, at_once)
            outcome = (cancelling.result(), claiming.result() is not None, jobs.row(job_id).status)
            assert outcome in {("canceled", False, "canceled"), ("requested", True, "running")}


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[Ending]:
    monkeypatch.setattr(endings, "_registered", {})
    heard: list[Ending] = []
    when_ended(ENDED)(heard.append)
    return heard


def test_the_slice_hears_of_a_cancellation(jobs: Jobs, heard: list[Ending]):
    job_id = jobs.add(ENDED, {"id": "x"})
    canceled(job_id)
    canceled(job_id)
    assert heard == [Ending(job_id, ENDED.name, {"id": "x"}, "canceled", None)]


def test_the_slice_hears_of_a_failure_for_good_but_not_of_a_retry(jobs: Jobs, heard: list[Ending]):
    error = problem("bad", "Bad", 500, "")
    job_id = jobs.add(ENDED)
    _, lease = jobs.claimed(job_id)
    lease.give_back(uncharged=True)
    assert heard == []
    _, lease = jobs.claimed(job_id)
    lease.give_back(error=error)
    assert heard == [Ending(job_id, ENDED.name, {}, "failed", error)]


def test_the_slice_hears_of_a_worker_lost_at_its_last_attempt(jobs: Jobs, heard: list[Ending]):
    job_id = jobs.add(ENDED)
    jobs.claimed(job_id)
    jobs.expire(job_id)
    take_back(job_id, WORKER_LOST)
    assert heard == [Ending(job_id, ENDED.name, {}, "failed", WORKER_LOST)]


def test_a_job_does_not_end_without_its_slice(jobs: Jobs, heard: list[Ending], monkeypatch: pytest.MonkeyPatch):
    def fail(ending: Ending) -> None:
        raise RuntimeError("not now")

    monkeypatch.setitem(endings._registered, ENDED.name, fail)
    job_id = jobs.add(ENDED)
    with pytest.raises(RuntimeError):
        canceled(job_id)
    assert jobs.row(job_id).status == "queued"


def test_which_jobs_have_moved(jobs: Jobs):
    still, moved, gone = jobs.add(), jobs.add(), new_id()
    jobs.claimed(moved)
    assert find_moved({still: 1, moved: 1, gone: 1}) == {moved: 2, gone: None}
    assert find_moved({}) == {}
