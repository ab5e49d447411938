"""Reports over HTTP: asked for and listed by managers, and downloaded whole or in parts."""

import errno
import os
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace as Row
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from werkzeug.http import http_date

from dues.ids import new_id
from dues.postgres import db
from dues.postgres.constraints import lock_key
from dues.reports.files import file_store, report_key
from dues.reports.service import MOST_UNFINISHED
from dues.settings import settings
from tests.contention import Contention
from tests.factory import Factory

ASKED = {"kind": "payments", "format": "csv", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
CONTENT = bytes(range(256)) * 4000
TAG = f'"{sha256(CONTENT).hexdigest()}"'


class Scene:
    """A store with its people, and a finished report."""

    def __init__(self, client: FlaskClient, make: Factory) -> None:
        self.client, self.make = client, make
        self.store = make.store()
        self.owner = make.rows("select * from users where id = %(id)s", {"id": self.store.owner_id})[0]
        self.manager, self.support = make.user(), make.user()
        make.staff(self.store, self.manager, role="manager")
        make.staff(self.store, self.support, role="support")
        self.path = f"/v1/stores/{self.store.id}/reports"
        self.headers = make.auth(self.manager)

    def ask(self, headers: dict[str, str] | None = None, **changes: Any) -> Any:
        return self.client.post(self.path, json=ASKED | changes, headers=headers or self.headers)

    def report(self, **columns: Any) -> Row:
        defaults = {
            "store_id": self.store.id,
            "id": new_id(),
            "requested_by": self.manager.id,
            "kind": "payments",
            "format": "csv",
            "range_from": "2026-01-01T00:00:00Z",
            "range_to": "2026-02-01T00:00:00Z",
            "job_id": new_id(),
        }
        return self.make.insert("reports", defaults | columns)

    def finished(self, **columns: Any) -> Row:
        report_id = new_id()
        key = report_key(report_id, "csv")
        with self.client.application.app_context(), file_store().create(key) as draft:
            draft.write(CONTENT)
        written = {"status": "succeeded", "file_key": key, "rows": 7, "bytes": draft.size, "sha256": draft.sha256()}
        return self.report(id=report_id, **written | columns)

    def get(self, report: Row, method: str = "GET", **headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path = f"{self.path}/{report.id}/file"
        answer = self.client.open(path, method=method, headers=self.headers | named, buffered=True)
        answer.close()
        return answer


def unread() -> float:
    """How many reads of files have failed so far for the disk's sake."""
    return REGISTRY.get_sample_value("dues_file_failures_total", {"error": "EIO"}) or 0.0


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


class TestDownloading:
    def test_the_whole_file(self, scene: Scene):
        report = scene.finished()
        answer = scene.get(report)
        assert (answer.status_code, answer.data) == (200, CONTENT)
        assert answer.headers["Content-Type"].split(";")[0] == "text/csv"
        assert answer.headers["Content-Disposition"] == 'attachment; filename="payments-2026-01.csv"'
        assert answer.headers["Content-Length"] == str(len(CONTENT))
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert answer.headers["ETag"] == TAG
        assert answer.headers["Last-Modified"] == http_date(report.updated_at)
        assert answer.headers["Cache-Control"] == "private, no-cache"

    @pytest.mark.parametrize("form", ["csv", "json", "xlsx", "pdf"])
    def test_it_is_never_compressed(self, scene: Scene, form: str):
        answer = scene.get(scene.finished(kind="revenue", format=form), Accept_Encoding="zstd, br, gzip")
        assert answer.data == CONTENT
        assert "Content-Encoding" not in answer.headers
        assert answer.headers["ETag"] == TAG

    def test_head_tells_the_same_without_the_file(self, scene: Scene):
        report = scene.finished()
        whole, head = scene.get(report), scene.get(report, "HEAD", Range="bytes=0-9")
        assert (head.status_code, head.data) == (200, b"")
        ignored = {"Date", "X-Request-Id", "X-Request-Duration", "Server-Timing"}
        told = [{n: v for n, v in answer.headers.items() if n not in ignored} for answer in (whole, head)]
        assert told[0] == told[1]

    @pytest.mark.parametrize(
        ("asked", "start", "stop"),
        [
            ("bytes=0-0", 0, 1),
            ("bytes=5-9", 5, 10),
            ("bytes=1000-", 1000, len(CONTENT)),
            ("bytes=-100", len(CONTENT) - 100, len(CONTENT)),
            ("bytes=-99999999", 0, len(CONTENT)),
            (f"bytes=10-{10**30}", 10, len(CONTENT)),
            (f"bytes=10-{'9' * 5000}", 10, len(CONTENT)),
            (f"bytes=-{'9' * 5000}", 0, len(CONTENT)),
            (f"bytes={'0' * 5000}7-", 7, len(CONTENT)),
            (f"bytes={len(CONTENT) - 1}-", len(CONTENT) - 1, len(CONTENT)),
        ],
    )
    def test_a_range(self, scene: Scene, asked: str, start: int, stop: int):
        answer = scene.get(scene.finished(), Range=asked, Accept_Encoding="gzip")
        assert (answer.status_code, answer.data) == (206, CONTENT[start:stop])
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
        assert answer.headers["Content-Length"] == str(stop - start)
        assert answer.headers["ETag"] == TAG
        assert "Content-Encoding" not in answer.headers

    @pytest.mark.parametrize(
        "asked", ["bytes=9-5", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "0-5"]
    )
    def test_a_range_that_is_not_understood_is_ignored(self, scene: Scene, asked: str):
        answer = scene.get(scene.finished(), Range=asked)
        assert (answer.status_code, answer.data) == (200, CONTENT)
        assert "Content-Range" not in answer.headers

    @pytest.mark.parametrize(
        "asked", [f"bytes={len(CONTENT)}-", f"bytes={10**30}-{10**31}", f"bytes={'9' * 5000}-", "bytes=-0"]
    )
    def test_a_range_beyond_the_end_is_refused(self, scene: Scene, asked: str):
        answer = scene.get(scene.finished(), Range=asked)
        assert (answer.status_code, answer.mimetype) == (416, "application/problem+json")
        assert answer.headers["Content-Range"] == f"bytes */{len(CONTENT)}"
        assert answer.json["code"] == "range_not_satisfiable"

    def test_if_range_gives_the_part_only_of_the_same_file(self, scene: Scene):
        report = scene.finished()
        modified = http_date(report.updated_at)
        for value, status in [
            (TAG, 206),
            (modified, 206),
            (f"W/{TAG}", 200),
            ('"another"', 200),
            ("Thu, 01 Jan 2026 00:00:00 GMT", 200),
            ("nonsense", 200),
        ]:
            assert scene.get(report, Range="bytes=0-9", If_Range=value).status_code == status, value
        beyond = scene.get(report, Range=f"bytes={len(CONTENT)}-", If_Range='"another"')
        assert beyond.status_code == 200

    def test_a_client_that_has_it_is_told_so(self, scene: Scene):
        report = scene.finished()
        modified = http_date(report.updated_at)
        for headers, status in [
            ({"If_None_Match": TAG}, 304),
            ({"If_None_Match": f'"another", W/{TAG}'}, 304),
            ({"If_None_Match": "*"}, 304),
            ({"If_None_Match": '"another"'}, 200),
            ({"If_None_Match": '"another"', "If_Modified_Since": modified}, 200),
            ({"If_Modified_Since": modified}, 304),
            ({"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
            ({"If_Modified_Since": "nonsense"}, 200),
            ({"If_None_Match": TAG, "Range": "bytes=0-9"}, 304),
        ]:
            answer = scene.get(report, **headers)
            assert answer.status_code == status, headers
            assert answer.headers["ETag"] == TAG
            assert answer.data == (b"" if status == 304 else CONTENT)

    @pytest.mark.parametrize("field", ["If_Modified_Since", "If_Unmodified_Since", "If_Range"])
    @pytest.mark.parametrize(
        "date",
        [
            "Thu, 32 Jan 2026 00:00:00 GMT",
            "Thu, 01 Jan 2026 99:00:00 GMT",
            "Thu, 01 Jan 2026 00:00:00 +99999999",
            f"Thu, 01 Jan {'9' * 5000} 00:00:00 GMT",
            "(",
        ],
    )
    def test_a_date_that_is_none_is_ignored(self, scene: Scene, field: str, date: str):
        answer = scene.get(scene.finished(), **{field: date})
        assert (answer.status_code, answer.data) == (200, CONTENT)

    def test_another_file_than_the_client_means_is_not_sent(self, scene: Scene):
        report = scene.finished()
        modified = http_date(report.updated_at)
        for headers, status in [
            ({"If_Match": TAG}, 200),
            ({"If_Match": "*"}, 200),
            ({"If_Match": '"another"'}, 412),
            ({"If_Unmodified_Since": modified}, 200),
            ({"If_Unmodified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 412),
            ({"If_Match": TAG, "If_Unmodified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"}, 200),
        ]:
            answer = scene.get(report, **headers)
            assert answer.status_code == status, headers

    def test_there_is_no_file_until_the_report_has_succeeded(self, scene: Scene):
        for status in ("pending", "running", "failed", "canceled"):
            answer = scene.get(scene.report(status=status))
            assert (answer.status_code, answer.json["code"]) == (404, "not_found")

    def test_a_file_that_is_gone_is_said_to_be(self, scene: Scene):
        report = scene.finished()
        with scene.client.application.app_context():
            file_store().delete(report.file_key)
        answer = scene.get(report)
        assert (answer.status_code, answer.json["code"]) == (404, "file_gone")

    def test_a_file_that_cannot_be_read_is_for_another_time(self, scene: Scene, monkeypatch: pytest.MonkeyPatch):
        report, before = scene.finished(), unread()

        def fail(path: Path, mode: str) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as broken:
            broken.setattr(Path, "open", fail)
            answer = scene.get(report)
        assert (answer.status_code, answer.json["code"]) == (503, "file_unavailable")
        assert answer.headers["Retry-After"]
        assert "ETag" not in answer.headers
        assert unread() == before + 1
        assert scene.get(report).data == CONTENT

    @pytest.mark.parametrize("size", [0, len(CONTENT) - 1])
    def test_a_file_that_lost_its_end(self, scene: Scene, make: Factory, size: int):
        report = scene.finished()
        with scene.client.application.app_context():
            os.truncate(Path(settings().files_dir, report.file_key), size)
        assert scene.get(report, Range="bytes=-9").status_code == 503
        if size == 0:
            assert scene.get(report).status_code == 503

    def test_no_connection_is_held_while_it_is_sent(self, scene: Scene, make: Factory):
        report = scene.finished()
        answer = scene.client.get(f"{scene.path}/{report.id}/file", headers=scene.headers, buffered=False)
        first = next(answer.iter_encoded())
        assert 0 < len(first) < len(CONTENT)
        with scene.client.application.app_context():
            in_use = db.engine.pool.checkedout()  # type: ignore[attr-defined]
        answer.close()
        assert in_use == 0

    def test_an_unknown_parameter_is_refused(self, scene: Scene):
        path = f"{scene.path}/{scene.finished().id}/file?as=csv"
        assert scene.client.get(path, headers=scene.headers).status_code == 400


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
