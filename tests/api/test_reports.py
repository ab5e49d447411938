"""Reports over HTTP: asked for and listed by managers."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from dues.ids import new_id
from dues.postgres.constraints import lock_key
from dues.reports.service import MOST_UNFINISHED
from tests.api.report_scene import ASKED, CONTENT, Scene
from tests.contention import Contention
from tests.factory import Factory


@pytest.fixture
def scene(client: FlaskClient, make: Factory) -> Scene:
    return Scene(client, make)


class TestAsking:
    def test_answers_at_once_with_a_report_and_a_job(self, scene: Scene, make: Factory):
        answer = scene.ask()
        assert answer.status_code == 202, answer.text
        report = answer.json
        itself = f"{scene.path}/{report['id']}"
        job = f"/v1/jobs/{make.value('select id from jobs')}"
        assert {name: value for name, value in report.items() if not name.endswith("_at")} == {
            "id": report["id"],
            "store_id": str(scene.store.id),
            "kind": "payments",
            "format": "csv",
            "from": "2026-01-01T00:00:00.000000+00:00",
            "to": "2026-02-01T00:00:00.000000+00:00",
            "timezone": "UTC",
            "bom": False,
            "status": "pending",
            "rows": None,
            "bytes": None,
            "version": 1,
            "links": {"self": itself, "job": job, "file": None},
        }
        assert answer.headers["Location"] == job
        assert int(answer.headers["Retry-After"]) >= 1
        row = make.rows("select * from jobs")[0]
        assert (row.kind, row.owner_id, row.store_id) == ("report.build", scene.manager.id, scene.store.id)
        assert row.args == {"store_id": str(scene.store.id), "report_id": report["id"]}
        assert scene.client.get(itself, headers=scene.headers).json == report

    def test_the_same_key_asks_once(self, scene: Scene, make: Factory):
        headers = scene.headers | {"Idempotency-Key": "one"}
        first, second = scene.ask(headers), scene.ask(headers)
        assert (first.status_code, second.status_code) == (202, 202)
        assert first.json == second.json
        assert first.headers["Location"] == second.headers["Location"]
        assert make.value("select count(*) from jobs") == make.value("select count(*) from reports") == 1

    def test_times_may_have_any_offset(self, scene: Scene):
        changed: dict[str, Any] = {"from": "2026-01-01T00:00:00+23:00"}
        report = scene.ask(**changed).json
        assert report["from"] == "2025-12-31T01:00:00.000000+00:00"

    @pytest.mark.parametrize(
        ("changes", "pointers"),
        [
            ({"format": "pdf"}, ["#/format"]),
            ({"kind": "profit", "format": "doc"}, ["#/format", "#/kind"]),
            ({"from": "2026-02-01T00:00:00Z"}, ["#/to"]),
            ({"from": "2026-02-01T00:00:01Z", "format": "pdf"}, ["#/format", "#/to"]),
            ({"from": "2026-01-01T00:00:00"}, ["#/from"]),
            ({"from": "yesterday", "to": 5}, ["#/from", "#/to"]),
            ({"from": "0001-01-01T00:00:00Z"}, ["#/from"]),
            ({"from": "1970-01-01T00:00:00+01:00"}, ["#/from"]),
            ({"to": "9999-12-31T23:59:59-01:00"}, ["#/to"]),
            ({"range_from": "2026-01-01T00:00:00Z"}, ["#/range_from"]),
        ],
    )
    def test_what_cannot_be_built_is_refused(self, scene: Scene, make: Factory, changes: Any, pointers: list[str]):
        answer = scene.ask(**changes)
        assert answer.status_code == 422, answer.text
        assert [fault["pointer"] for fault in answer.json["errors"]] == pointers
        assert make.value("select count(*) from reports") == make.value("select count(*) from jobs") == 0

    def test_the_whole_span_of_times_is_taken(self, scene: Scene):
        span: Any = {"from": "1970-01-01T00:00:00Z", "to": "9999-12-31T23:59:59.999999Z"}
        assert scene.ask(**span).status_code == 202
        assert scene.ask(kind="revenue", format="pdf").status_code == 202


class TestAccess:
    def test_managers_and_owners_only(self, scene: Scene, make: Factory):
        report = scene.finished()
        paths = [scene.path, f"{scene.path}/{report.id}", f"{scene.path}/{report.id}/file"]
        for user, status in [
            (scene.owner, 200),
            (scene.manager, 200),
            (scene.support, 403),
            (make.user(), 403),
        ]:
            headers = make.auth(user)
            found = [scene.client.get(path, headers=headers, buffered=True).status_code for path in paths]
            assert found == [status] * 3, user
            assert scene.ask(headers).status_code == (202 if status == 200 else 403)

    def test_a_token_needs_the_scope_and_the_store(self, scene: Scene, make: Factory):
        report = scene.finished()
        other = make.store(scene.manager)
        path = f"{scene.path}/{report.id}/file"
        assert scene.client.get(path).status_code == 401
        assert scene.client.get(path, headers=make.auth(scene.manager, "payments:read")).status_code == 403
        assert scene.client.get(path, headers=make.auth(scene.manager, store=other)).status_code == 403
        assert scene.ask(make.auth(scene.manager, "reports:read")).status_code == 403
        moved = path.replace(str(scene.store.id), str(other.id))
        assert scene.client.get(moved, headers=scene.headers).status_code == 404

    def test_what_does_not_exist_is_not_found(self, scene: Scene):
        for name in (new_id(), "nonsense"):
            for path in (f"{scene.path}/{name}", f"{scene.path}/{name}/file"):
                assert scene.client.get(path, headers=scene.headers).status_code == 404


class TestReading:
    def test_a_finished_report_links_to_its_file(self, scene: Scene):
        report = scene.finished()
        body: Any = scene.client.get(f"{scene.path}/{report.id}", headers=scene.headers).json
        assert (body["status"], body["rows"], body["bytes"]) == ("succeeded", 7, len(CONTENT))
        assert body["links"]["file"] == f"{scene.path}/{report.id}/file"

    def test_the_list_is_one_statement_newest_first(self, scene: Scene, queries: Any):
        ids = [str(scene.report(created_at=f"2026-01-0{day}T00:00:00Z").id) for day in range(1, 6)]
        with queries() as seen:
            found: Any = scene.client.get(f"{scene.path}?per_page=3", headers=scene.headers).json
        assert [report["id"] for report in found["data"]] == ids[::-1][:3]
        assert found["meta"]["total"] == 5
        assert len(seen) == 2, str(seen)


class TestHowManyAtOnce:
    """Each takes a worker's time, which is others' too."""

    def test_so_many_of_a_store_that_are_not_built_yet(self, scene: Scene, make: Factory):
        unfinished = [scene.ask() for _ in range(MOST_UNFINISHED)]
        assert {answer.status_code for answer in unfinished} == {202}
        refused = scene.ask()
        assert (refused.status_code, refused.json["code"]) == (409, "too_many_unfinished")
        assert scene.client.delete(unfinished[0].headers["Location"], headers=scene.headers).status_code == 200
        make.rows("update reports set status = 'running' where status = 'pending'")
        assert [scene.ask().status_code for _ in range(2)] == [202, 409]
        assert Scene(scene.client, make).ask().status_code == 202

    def test_of_two_requests_for_the_last_place_one_gets_it(self, scene: Scene, contention: Contention):
        for _ in range(MOST_UNFINISHED - 1):
            scene.report()
        app, sent = scene.client.application, {"json": ASKED, "headers": scene.headers}
        key = lock_key("unfinished reports of a store", str(scene.store.id))
        with contention.held("select pg_advisory_xact_lock(%(key)s)", key=key):
            futures = contention.start(*[lambda: app.test_client().post(scene.path, **sent)] * 2)
        assert sorted(future.result().status_code for future in futures) == [202, 409]
