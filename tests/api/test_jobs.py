"""Status URLs over HTTP: who sees a job, how it is followed, and how it is canceled."""

from types import SimpleNamespace as Row
from typing import Any

import pytest
from flask.testing import FlaskClient

from dues.ids import new_id
from tests.factory import Factory


class Scene:
    """A store, a member who asked for something, and the job that does it."""

    def __init__(self, client: FlaskClient, make: Factory) -> None:
        self.client, self.make = client, make
        self.store, self.member = make.store(), make.user()
        self.manager, self.support = make.user(), make.user()
        make.staff(self.store, self.manager, role="manager")
        make.staff(self.store, self.support, role="support")
        self.job = self.add()

    def add(self, **columns: Any) -> Row:
        defaults = {
            "id": new_id(),
            "kind": "test.work",
            "queue": "default",
            "owner_id": self.member.id,
            "store_id": self.store.id,
        }
        return self.make.insert("jobs", defaults | columns)

    def ask(self, path: str, headers: dict[str, str]) -> Any:
        return self.client.get(path, headers=headers)

    def get(self, user: Row | None = None, job: Row | None = None, **headers: str) -> Any:
        sent = self.make.auth(user or self.member) | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.get(f"/v1/jobs/{(job or self.job).id}", headers=sent)

    def cancel(self, user: Row | None = None, job: Row | None = None, **headers: str) -> Any:
        sent = self.make.auth(user or self.member) | {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.delete(f"/v1/jobs/{(job or self.job).id}", headers=sent)

    def claim(self, job: Row) -> None:
        self.make.rows(
            "update jobs set status = 'running', attempt = 1, lease_token = %(id)s,"
            " lease_until = now() + interval '1 hour', started_at = now(), version = version + 1 where id = %(id)s",
            {"id": job.id},
        )


@pytest.fixture
def scene(client: FlaskClient, make: Factory) -> Scene:
    return Scene(client, make)


def test_a_job_is_seen_by_its_owner_and_by_who_manages_its_store(scene: Scene):
    owner = scene.make.rows("select * from users where id = %(id)s", {"id": scene.store.owner_id})[0]
    other = scene.make.user()
    scene.make.store(other)
    statuses = [scene.get(user).status_code for user in (scene.member, scene.manager, owner, scene.support, other)]
    assert statuses == [200, 200, 200, 404, 404]


def test_without_a_store_it_is_its_owners_alone(scene: Scene):
    job = scene.add(store_id=None)
    assert [scene.get(user, job).status_code for user in (scene.member, scene.manager)] == [200, 404]


@pytest.mark.parametrize("job_id", ["x", "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20"])
def test_a_job_that_is_not_there(scene: Scene, job_id: str):
    headers = scene.make.auth(scene.member)
    assert scene.client.get(f"/v1/jobs/{job_id}", headers=headers).status_code == 404
    assert scene.client.delete(f"/v1/jobs/{job_id}", headers=headers).status_code == 404


def test_it_needs_the_scope(scene: Scene):
    headers = scene.make.auth(scene.member, "jobs:read")
    assert scene.client.get("/v1/jobs").status_code == 401
    assert scene.client.get("/v1/jobs", headers=headers).status_code == 200
    assert scene.client.delete(f"/v1/jobs/{scene.job.id}", headers=headers).status_code == 403


def test_a_token_bound_to_another_store_does_not_open_it(scene: Scene):
    bound = scene.make.auth(scene.member, store=scene.make.store())
    assert scene.ask(f"/v1/jobs/{scene.job.id}", bound).status_code == 403
    assert scene.ask("/v1/jobs", bound).json["data"] == []
    bound = scene.make.auth(scene.member, store=scene.store)
    assert scene.ask(f"/v1/jobs/{scene.job.id}", bound).status_code == 200
    assert len(scene.ask("/v1/jobs", bound).json["data"]) == 1


def test_following_a_job(scene: Scene):
    answer = scene.get()
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Cache-Control"] == "private, no-cache"
    assert int(answer.headers["Retry-After"]) >= 1
    assert (answer.json["status"], answer.json["done"]) == ("queued", False)
    unchanged = scene.get(If_None_Match='"1"')
    assert (unchanged.status_code, unchanged.data) == (304, b"")
    assert unchanged.headers["Retry-After"]
    scene.claim(scene.job)
    changed = scene.get(If_None_Match='"1"')
    assert (changed.status_code, changed.headers["ETag"], changed.json["status"]) == (200, '"2"', "running")


def test_a_failed_job_is_a_good_answer(scene: Scene):
    error = {"type": "/problems/x", "title": "X", "status": 502, "detail": "no"}
    job = scene.add(status="failed", finished_at="2026-11-20T12:00:00Z", error=error)
    answer = scene.get(job=job)
    assert (answer.status_code, answer.json["done"], answer.json["error"]) == (200, True, error)
    assert "Retry-After" not in answer.headers


def test_only_the_fields_asked_for(scene: Scene):
    headers = scene.make.auth(scene.member)
    path = f"/v1/jobs/{scene.job.id}"
    assert scene.ask(f"{path}?fields=status,done", headers).json == {"status": "queued", "done": False}
    assert scene.ask(f"{path}?fields=args", headers).status_code == 400


def test_ones_own_jobs_are_listed_the_newest_first_in_one_statement(scene: Scene, queries):
    second = scene.add(kind="payment.refund")
    scene.add(owner_id=scene.manager.id)
    headers = scene.make.auth(scene.member)
    with queries() as seen:
        answer = scene.ask("/v1/jobs?cursor=&limit=1", headers)
    assert len(seen) == 2, str(seen)
    assert [job["id"] for job in answer.json["data"]] == [str(second.id)]
    rest = scene.ask(answer.json["links"]["next"], headers).json
    assert [job["id"] for job in rest["data"]] == [str(scene.job.id)]
    filtered = scene.ask("/v1/jobs?kind=payment.refund&status=queued&per_page=5", headers).json
    assert [job["id"] for job in filtered["data"]] == [str(second.id)]
    assert filtered["meta"]["total"] == 1


@pytest.mark.parametrize("who", ["member", "manager"])
def test_canceling_what_is_queued(scene: Scene, who: str):
    answer = scene.cancel(getattr(scene, who))
    assert (answer.status_code, answer.json["status"], answer.json["cancel_requested"]) == (200, "canceled", True)
    assert scene.cancel().status_code == 200


def test_canceling_what_is_running(scene: Scene):
    scene.claim(scene.job)
    for _ in range(2):
        answer = scene.cancel()
        assert (answer.status_code, answer.json["status"], answer.json["cancel_requested"]) == (202, "running", True)
        assert answer.headers["ETag"] == '"3"'


def test_what_cannot_be_canceled(scene: Scene):
    for job in (scene.add(cancelable=False), scene.add(status="succeeded", finished_at="2026-11-20T12:00:00Z")):
        answer = scene.cancel(job=job)
        assert (answer.status_code, answer.json["code"]) == (409, "not_cancelable")


def test_what_the_job_was_for_hears_of_its_cancellation(scene: Scene):
    path = f"/v1/stores/{scene.store.id}/reports"
    headers = scene.make.auth(scene.manager)
    wanted = {"kind": "payments", "format": "csv", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
    location = scene.client.post(path, json=wanted, headers=headers).headers["Location"]
    assert scene.client.delete(location, headers=headers).status_code == 200
    assert [report["status"] for report in scene.ask(path, headers).json["data"]] == ["canceled"]


def test_canceling_is_for_those_who_see_the_job(scene: Scene):
    assert scene.cancel(scene.support).status_code == 404
    assert scene.get().json["status"] == "queued"


def test_canceling_only_what_was_seen(scene: Scene):
    assert scene.cancel(If_Match='"7"').status_code == 412
    assert scene.cancel(If_Match='"1"').status_code == 200
