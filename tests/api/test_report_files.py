"""Reports over HTTP: downloaded whole or in parts."""

import errno
import os
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from prometheus_client import REGISTRY
from werkzeug.http import http_date

from dues.postgres import db
from dues.reports.files import file_store
from dues.settings import settings
from tests.api.report_scene import CONTENT, TAG, Scene
from tests.factory import Factory


@pytest.fixture
def scene(client: FlaskClient, make: Factory) -> Scene:
    return Scene(client, make)


def unread() -> float:
    """How many reads of files have failed so far for the disk's sake."""
    return REGISTRY.get_sample_value("dues_file_failures_total", {"error": "EIO"}) or 0.0


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

    def test_a_range(self, scene: Scene):
        report = scene.finished()
        for asked, start, stop in (
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
        ):
            answer = scene.get(report, Range=asked, Accept_Encoding="gzip")
            assert (answer.status_code, answer.data) == (206, CONTENT[start:stop]), asked[:50]
            assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(CONTENT)}"
            assert answer.headers["Content-Length"] == str(stop - start)
            assert answer.headers["ETag"] == TAG
            assert "Content-Encoding" not in answer.headers

    def test_a_range_that_is_not_understood_is_ignored(self, scene: Scene):
        report = scene.finished()
        for asked in ("bytes=9-5", "bytes=", "bytes=-", "bytes=a-b", "lines=1-2", "bytes=0-1,5-6", "0-5"):
            answer = scene.get(report, Range=asked)
            assert (answer.status_code, answer.data) == (200, CONTENT), asked
            assert "Content-Range" not in answer.headers, asked

    def test_a_range_beyond_the_end_is_refused(self, scene: Scene):
        report = scene.finished()
        for asked in (f"bytes={len(CONTENT)}-", f"bytes={10**30}-{10**31}", f"bytes={'9' * 5000}-", "bytes=-0"):
            answer = scene.get(report, Range=asked)
            assert (answer.status_code, answer.mimetype) == (416, "application/problem+json"), asked[:50]
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

    def test_a_date_that_is_none_is_ignored(self, scene: Scene):
        report = scene.finished()
        for date in (
            "Thu, 32 Jan 2026 00:00:00 GMT",
            "Thu, 01 Jan 2026 99:00:00 GMT",
            "Thu, 01 Jan 2026 00:00:00 +99999999",
            f"Thu, 01 Jan {'9' * 5000} 00:00:00 GMT",
            "(",
        ):
            for field in ("If_Modified_Since", "If_Unmodified_Since", "If_Range"):
                answer = scene.get(report, **{field: date})
                assert (answer.status_code, answer.data) == (200, CONTENT), (field, date[:50])

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
