"""A kept answer goes out as bytes: to a client it is the answer that Flask gave, however it asks."""

import re
import socket
from collections.abc import Iterator

import pytest

from tests.factory import Factory
from tests.servers import Servers, wait_until
from tests.webserver import WebServer

# Another for each answer, or only with those that Flask gives.
OWN = {"x-request-id", "x-request-duration", "server-timing", "ratelimit", "date"}

Answer = tuple[bytes, dict[str, str], bytes]


@pytest.fixture(scope="module")
def web(servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, threads=2, RATE_LIMIT="100000/60") as server:
        yield server


@pytest.fixture
def path(make: Factory, web: WebServer) -> str:
    """A list that the process has kept."""
    store = make.store(make.user())
    for _ in range(20):
        make.package(store)
    path = f"/v1/stores/{store.id}/packages"
    wait_until(lambda: "desc=hit" in talk(web, request(path))[0][1]["server-timing"], 10, "a hit")
    return path


def request(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *headers, "", ""]).encode()


def talk(web: WebServer, *requests: bytes) -> list[Answer]:
    """Send all requests at once on one connection, and take their answers apart."""
    answers: list[Answer] = []
    with socket.create_connection(("127.0.0.1", web.port), timeout=10) as connection:
        connection.sendall(b"".join(requests))
        stream = connection.makefile("rb")
        for sent in requests:
            status, headers = stream.readline().rstrip(b"\r\n"), dict[str, str]()
            while line := stream.readline().rstrip(b"\r\n").decode():
                name, _, value = line.partition(": ")
                assert name == name.lower()
                assert name not in headers, f"{name} is there twice"
                headers[name] = value
            length = 0 if sent.startswith(b"HEAD") else int(headers.get("content-length", 0))
            answers.append((status, headers, stream.read(length)))
        if answers[-1][1].get("connection") == "close":
            assert stream.read() == b""
    return answers


def lasting(answer: Answer) -> dict[str, str]:
    return {name: value for name, value in answer[1].items() if name not in OWN}


def test_a_hit_is_the_answer_that_flask_gave(web: WebServer, make: Factory):
    path = f"/v1/stores/{make.store(make.user()).id}/packages"
    first = talk(web, request(path))[0]
    assert "desc=miss" in first[1]["server-timing"]
    for _ in range(2):
        hit = talk(web, request(path))[0]
        assert "desc=hit" in hit[1]["server-timing"]
        assert (hit[0], lasting(hit), hit[2]) == (first[0], lasting(first), first[2])
        assert hit[1].keys() == first[1].keys()


def test_each_hit_has_an_id_of_its_own_or_the_clients(web: WebServer, path: str):
    ids = [answer[1]["x-request-id"] for answer in talk(web, request(path), request(path))]
    assert len(set(ids)) == 2
    assert all(re.fullmatch(r"[0-9a-f]{32}", each) for each in ids)
    assert talk(web, request(path, "X-Request-Id: mine-1"))[0][1]["x-request-id"] == "mine-1"
    assert talk(web, request(path, "X-Request-Id: a\tb"))[0][1]["x-request-id"] != "a\tb"


def test_requests_sent_in_one_go_are_answered_in_turn(web: WebServer, path: str):
    answers = talk(web, request(path), request("/v1/me"), request(path), request(path))
    assert [status for status, _, _ in answers] == [
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 401 Unauthorized",
        b"HTTP/1.1 200 OK",
        b"HTTP/1.1 200 OK",
    ]
    assert len({body for status, _, body in answers if b"200" in status}) == 1


def test_who_has_it_is_told_so_without_a_body(web: WebServer, path: str):
    etag = talk(web, request(path))[0][1]["etag"]
    for sent in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        status, headers, _ = talk(web, request(path, f"If-None-Match: {sent}"))[0]
        assert status == b"HTTP/1.1 304 Not Modified"
        assert headers["etag"] == etag
        assert "desc=hit" in headers["server-timing"]
        assert not headers.keys() & {"content-length", "content-type", "content-encoding", "transfer-encoding"}
    assert talk(web, request(path, 'If-None-Match: "other"'))[0][0] == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize(("version", "header"), [("1.1", "Connection: close"), ("1.0", "Accept: */*")])
def test_a_connection_that_is_not_kept_is_closed_after_a_hit(web: WebServer, path: str, version: str, header: str):
    status, headers, body = talk(web, request(path, header, version=version))[0]
    assert status.endswith(b"200 OK")
    assert headers["connection"] == "close"
    assert "desc=hit" in headers["server-timing"]
    assert len(body) == int(headers["content-length"])


def test_a_head_has_the_headers_of_the_answer_and_nothing_after_them(web: WebServer, path: str):
    get, head, after = talk(web, request(path), request(path, method="HEAD"), request(path))
    assert head[1]["content-length"] == get[1]["content-length"]
    assert after[2] == get[2]
