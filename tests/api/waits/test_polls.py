"""Long polls on status URLs, on the event loop."""

import time

import pytest

from dues.ids import new_id
from dues.jobs import Run
from dues.jobs.notifications import tell_change
from tests.api.waits.conftest import Hall


def test_a_client_is_answered_within_moments_of_the_change(hall: Hall):
    job_id = hall.job()
    held = hall.me.poll(job_id)
    hall.wait_for(1)
    assert not held.done()
    began = time.monotonic()
    hall.jobs.claimed(job_id)
    answer = held.result()
    # Without a hint it would be three seconds.
    assert time.monotonic() - began < 2.5
    assert (answer.status, answer.json["status"], answer.headers["etag"]) == (200, "running", '"2"')
    assert answer.headers["preference-applied"] == "wait=20"
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["retry-after"] == "1"
    assert answer.json == hall.me.get(f"/v1/jobs/{job_id}").json


def test_when_nothing_changes_it_is_304_after_the_time(hall: Hall):
    job_id = hall.job()
    # The second time without a trip into Flask.
    for _ in range(2):
        began = time.monotonic()
        answer = hall.me.poll(job_id, wait=1).result()
        assert 0.9 < time.monotonic() - began < 6
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", '"1"')
        assert answer.headers["preference-applied"] == "wait=1"
        assert float(answer.headers["x-request-duration"]) > 0.9


def test_without_a_version_it_is_answered_at_the_next_change(hall: Hall):
    job_id = hall.job()
    assert hall.me.get(f"/v1/jobs/{job_id}", Prefer="wait=1").json["status"] == "queued"
    held = hall.me.later("GET", f"/v1/jobs/{job_id}", Prefer="respond-async, wait=20")
    hall.wait_for(1)
    Run(*hall.jobs.claimed(job_id)).complete({"href": "/v1/x"})
    answer = held.result()
    while not answer.json["done"]:
        answer = hall.me.get(f"/v1/jobs/{job_id}", Prefer="wait=20")
    assert answer.json["result"] == {"href": "/v1/x"}
    assert "retry-after" not in answer.headers


def test_what_is_there_to_be_told_is_told_at_once(hall: Hall):
    finished, running = hall.job(), hall.job()
    Run(*hall.jobs.claimed(finished)).complete(None)
    hall.jobs.claimed(running)
    began = time.monotonic()
    # Who has waited before takes a shorter way.
    for _ in range(2):
        assert hall.me.poll(finished, 3).result().status == 304
        assert hall.me.poll(finished, 2).result().json["done"]
        assert hall.me.poll(running, 1).result().json["status"] == "running"
        assert hall.me.poll(running, 999).result().status == 200
        hall.introduce(hall.me)
    for prefer in ("wait=soon", "wait=0", "wait=-5", "respond-async"):
        assert hall.me.get(f"/v1/jobs/{running}", If_None_Match='"2"', Prefer=prefer).status == 304
    assert time.monotonic() - began < 12


def test_only_the_fields_asked_for(hall: Hall):
    job_id = hall.job()
    held = hall.me.later("GET", f"/v1/jobs/{job_id}?fields=status,done", If_None_Match='"1"', Prefer="wait=20")
    whole = hall.me.poll(job_id)
    hall.wait_for(2)
    hall.jobs.claimed(job_id)
    assert held.result().json == {"status": "running", "done": False}
    assert whole.result().json["id"] == str(job_id)


def test_a_version_that_is_written_otherwise_is_another(hall: Hall):
    job_id = hall.job()
    hall.introduce(hall.me)
    for _ in range(2):
        answer = hall.me.ask("GET", f"/v1/jobs/{job_id}", If_None_Match='"01"', Prefer="wait=1")
        assert (answer.status, answer.json["id"]) == (200, str(job_id))


def test_others_see_nothing_however_they_wait(hall: Hall):
    job_id, other = hall.job(), hall.caller()
    for _ in range(2):
        assert other.poll(job_id).result().status == 404
        assert other.poll(job_id, 999).result().status == 404
        assert other.poll(new_id()).result().status == 404
        hall.introduce(other)
    unscoped = hall.caller(hall.me.user, "account:read")
    assert unscoped.poll(job_id).result().status == 403
    forged = hall.caller(hall.me.user)
    forged.auth = {"Authorization": "Bearer dues_forged"}
    assert forged.poll(job_id).result().status == 401


def test_a_token_that_is_revoked_meanwhile_is_told_nothing(hall: Hall):
    job_id = hall.job()
    for is_known in (False, True):
        victim = hall.caller(hall.me.user)
        if is_known:
            hall.introduce(victim)
        held = victim.poll(job_id, hall.jobs.row(job_id).version)
        hall.wait_for(1)
        token = next(t for t in victim.get("/v1/tokens").json["data"] if t["id"] == token_id(hall, victim.auth))
        assert victim.ask("DELETE", f"/v1/tokens/{token['id']}").status == 204
        hall.change(job_id)
        answer = held.result()
        assert (answer.status, answer.json["code"]) == (401, "unauthenticated")
        # Nor when it comes back.
        assert victim.poll(job_id, 999).result().status == 401


@pytest.mark.parametrize(
    "ended",
    [
        "update api_tokens set revoked_at = now() where id = %(id)s",
        "update api_tokens set expires_at = now() where id = %(id)s",
        "update users set deleted_at = now() where id = (select user_id from api_tokens where id = %(id)s)",
    ],
)
def test_whatever_ends_a_token_who_comes_back_with_it_is_refused_at_once(hall: Hall, ended: str):
    leaver = hall.caller()
    job_id = hall.job(owner_id=leaver.user.id)
    hall.introduce(leaver)
    assert leaver.poll(job_id, wait=1).result().status == 304
    hall.make.rows(ended, {"id": token_id(hall, leaver.auth)})
    began = time.monotonic()
    assert [leaver.poll(job_id, version).result().status for version in (1, 999)] == [401, 401]
    assert time.monotonic() - began < 15


def token_id(hall: Hall, auth: dict[str, str]) -> str:
    text = auth["Authorization"].removeprefix("Bearer ")
    found = hall.make.value(
        "select id::text from api_tokens where token_hash = sha256(%(text)s)", {"text": text.encode()}
    )
    return str(found)


def test_a_manager_who_is_dismissed_meanwhile_is_told_nothing(hall: Hall):
    owner = hall.caller()
    store, manager = hall.make.store(owner.user), hall.caller()
    hall.make.staff(store, manager.user, role="manager")
    job_id = hall.job(store_id=store.id)
    held = manager.poll(job_id)
    hall.wait_for(1)
    assert owner.ask("DELETE", f"/v1/stores/{store.id}/staff/{manager.user.id}").status == 204
    hall.jobs.claimed(job_id)
    assert held.result().status == 404


def test_a_job_that_goes_away_is_404(hall: Hall):
    job_id = hall.job()
    held = hall.me.poll(job_id)
    hall.wait_for(1)
    hall.make.rows("delete from jobs where id = %(id)s", {"id": job_id})
    tell_change(job_id)
    assert held.result().status == 404


def test_many_wait_while_others_are_served_and_those_who_leave_are_forgotten(hall: Hall):
    job_id = hall.job()
    path, headers = f"/v1/jobs/{job_id}", {"If_None_Match": '"1"', "Prefer": "wait=25"}
    connections = [hall.me.open("GET", path, **headers) for _ in range(150)]
    # The server has two threads.
    hall.wait_for(150)
    assert hall.me.get("/v1/me").status == 200
    for connection in connections[:140]:
        connection.close()
    hall.wait_for(10)
    hall.jobs.claimed(job_id)
    for connection in connections[140:]:
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("ETag")) == (200, '"2"')
        answer.read()
        # The connection is as good as ever.
        connection.request("GET", path, headers=hall.me.auth)
        assert connection.getresponse().read()
        connection.close()


def test_each_hears_of_his_own_job(hall: Hall):
    callers = [hall.caller() for _ in range(4)]
    for caller in callers:
        # Else all ask at once for a thread that looks at their tokens, and a busy machine turns the last ones away.
        hall.introduce(caller)
    ids = [hall.job(owner_id=caller.user.id) for caller in callers * 6]
    held = [caller.poll(job_id) for caller, job_id in zip(callers * 6, ids, strict=True)]
    hall.wait_for(24)
    for job_id in ids:
        hall.jobs.claimed(job_id)
    assert [one.result().json["id"] for one in held] == [str(job_id) for job_id in ids]
