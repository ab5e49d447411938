"""What is sent is refused at once where it cannot be read, however large it is, on either server."""

import gzip
import http.client
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest
from backports import zstd

from dues.ids import new_id
from tests.factory import Factory
from tests.imports.conftest import Importer
from tests.servers import Servers
from tests.webserver import WebServer

GOOD = b"external_id,email,name\nC-1,ada@example.com,Ada\n"
MOST = 4 * 1024 * 1024

FILES: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "required"),
    "blank lines": (b"\r\n\n", "required"),
    "UTF-16": ("external_id,email,name\n".encode("utf-16"), "encoding"),
    "another encoding": ("external_id,email,näme\n".encode("latin-1"), "encoding"),
    "semicolons": (b"external_id;email;name\n", "delimiter"),
    "tabs": (b"external_id\temail\tname\n", "delimiter"),
    "a column twice": (b"external_id,email,name,email\n", "repeated"),
    "an unknown column": (b"external_id,email,name,password\n", "unknown"),
    "a column that is missing": (b"external_id,name\n", "required"),
    "a quote that is not closed": (b'external_id,"email,name\n', "quotes"),
    "lines of old Macs": (b"external_id,email,name\rC-1,a@example.com,A\r", "malformed_csv"),
    "one endless line": (b"x" * 2_000_000, "length"),
}


def test_a_file_that_cannot_be_read_is_refused(importer: Importer) -> None:
    for name, (content, code) in FILES.items():
        answer = importer.send("customers", content)
        problem = answer.json or {}
        assert (answer.status_code, problem["errors"][0]["code"]) == (422, code), (name, problem)
    assert importer.club.get(importer.path)["data"] == []


def test_a_json_array_is_refused(importer: Importer) -> None:
    answer = importer.send("customers", b'[{"external_id":"C-1"}]', "application/x-ndjson")
    assert (answer.status_code, (answer.json or {})["errors"][0]["code"]) == (422, "format")


def test_the_kind_is_one_of_three(importer: Importer) -> None:
    headers = importer.club.owner_auth
    for kind in ("", "?kind=", "?kind=users", "?kind=customers&kind=customers", "?kind=customers&x=1"):
        path = f"{importer.path}{kind}"
        answer = importer.club.client.post(path, data=GOOD, content_type="text/csv", headers=headers)
        assert (answer.status_code, (answer.json or {})["code"]) == (400, "invalid_parameter"), kind


def test_a_byte_order_mark_is_no_part_of_the_first_column(importer: Importer) -> None:
    assert importer.counts("customers", b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n")) == (1, 0, 0, 0)


def test_other_types_are_not_taken(importer: Importer) -> None:
    taken = "text/csv, application/x-ndjson, application/jsonl"
    for media_type in ("application/json", "text/plain", "multipart/form-data", ""):
        answer = importer.send("customers", GOOD, media_type)
        assert (answer.status_code, answer.headers["Accept"]) == (415, taken), media_type


def test_a_key_gives_the_same_import_again_however_the_file_is_packed(importer: Importer) -> None:
    first = importer.send("customers", GOOD, Idempotency_Key="one")
    again = importer.send("customers", gzip.compress(GOOD), Content_Encoding="gzip", Idempotency_Key="one")
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json == again.json
    assert again.headers["Idempotency-Replayed"] == "true"
    other = importer.send("packages", GOOD, Idempotency_Key="one")
    assert other.status_code == 422


def test_a_disk_that_is_full_takes_no_file_of_any_size(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one is written when it is read, or closed."""

    def open_full(**_: str) -> IO[bytes]:
        return Path("/dev/full").open("w+b")

    with monkeypatch.context() as full:
        full.setattr(tempfile, "TemporaryFile", open_full)
        for content in (GOOD, GOOD + b"C-2,b@example.com,B\n" * 50_000):
            answer = importer.send("customers", content)
            assert (answer.status_code, (answer.json or {})["code"]) == (503, "files_unavailable")
    assert importer.send("customers", GOOD).status_code == 202


def test_at_most_so_many_wait(importer: Importer) -> None:
    for _ in range(20):
        assert importer.send("customers", GOOD).status_code == 202
    refused = importer.send("customers", GOOD)
    assert (refused.status_code, (refused.json or {})["code"]) == (409, "too_many_unfinished")


class Server:
    """A web server, and a store to which files are sent over a connection of one's own."""

    def __init__(self, port: int, path: str, headers: dict[str, str]) -> None:
        self.port, self.path, self.headers = port, path, headers

    def send(self, body: Any, **fields: str) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {**self.headers, "Content-Type": "text/csv"}
        headers |= {name.replace("_", "-"): value for name, value in fields.items()}
        try:
            connection.request("POST", f"{self.path}?kind=customers", body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="module", params=["server:app", "wsgi:app"])
def web(request: pytest.FixtureRequest, servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, target=request.param, MAX_IMPORT_BYTES=str(MOST), RATE_LIMIT="off") as found:
        yield found


@pytest.fixture
def server(web: WebServer, make: Factory) -> Server:
    store = make.store()
    (owner,) = make.rows("select * from users where id = %(id)s", {"id": store.owner_id})
    return Server(web.port, f"/v1/stores/{store.id}/imports", make.auth(owner))


def rows(count: int) -> bytes:
    return GOOD + b"".join(b"D-%d,d%d@example.com,Somebody of a long name\n" % (n, n) for n in range(count))


def chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 100_000):
        yield content[start : start + 100_000]


def test_a_file_beyond_the_size_of_other_bodies_arrives_whole(server: Server) -> None:
    content = rows(50_000)
    assert len(content) > 2 * 1024 * 1024
    status, one = server.send(content)
    assert (status, one["bytes"], one["status"]) == (202, len(content), "pending")
    status, one = server.send(chunks(content))
    assert (status, one["bytes"]) == (202, len(content))
    for encoding, packed in (("gzip", gzip.compress(content)), ("zstd", zstd.compress(content))):
        status, one = server.send(packed, Content_Encoding=encoding)
        assert (status, one["bytes"]) == (202, len(content))


@pytest.mark.parametrize("packed", ["", "gzip", "zstd", "chunked"])
def test_more_than_the_most_is_refused_before_it_is_held(server: Server, packed: str) -> None:
    content = bytes(MOST + 1)
    match packed:
        case "gzip":
            status, problem = server.send(gzip.compress(content), Content_Encoding="gzip")
        case "zstd":
            status, problem = server.send(zstd.compress(content), Content_Encoding="zstd")
        case "chunked":
            status, problem = server.send(iter([content[:MOST], b"12345678"]))
        case _:
            status, problem = server.send(b"", Content_Length=str(MOST + 1))
    assert (status, problem["code"]) == (413, "payload_too_large")


def test_data_that_is_cut_off_or_wrong_is_refused(server: Server) -> None:
    for content in (gzip.compress(GOOD)[:-4], b"no gzip"):
        status, problem = server.send(content, Content_Encoding="gzip")
        assert (status, problem["code"]) == (400, "malformed_encoding")
    status, problem = server.send(GOOD, Content_Encoding="br")
    assert status == 415


def test_who_may_not_send_a_file_is_told_before_it_comes(server: Server, make: Factory) -> None:
    server.headers = make.auth(make.user())
    status, _ = server.send(b"", Content_Length=str(MOST), Idempotency_Key=new_id().hex)
    assert status == 403
    server.headers = {}
    status, _ = server.send(b"", Content_Length=str(MOST))
    assert status == 401
