"""What every answer tells of its request, and what the log does."""

import logging
import re
import time

import pytest

from api.app import create_app
from api.auth import PUBLIC
from api.reply import Reply, no_content
from api.request import make_request
from api.routing import Call, Route
from api.serving import answer
from api.telemetry import log_answered
from dues.observability.trace import current_trace
from dues.postgres import db

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def package(make):
    return make.package(make.store())


@pytest.fixture
def path(package):
    return f"/v1/stores/{package.store_id}/packages/{package.id}"


def test_a_request_id_is_made(client):
    first, second = (client.get("/healthz").headers["X-Request-Id"] for _ in range(2))
    assert re.fullmatch(r"[0-9a-f]{32}", first)
    assert first != second


@pytest.mark.parametrize("sent", ["4bf92f35", "Root=1-67891233-abcdef", "a" * 128])
def test_a_request_id_is_accepted(client, sent):
    answer = client.get("/nowhere", headers={"X-Request-Id": sent})
    assert answer.headers["X-Request-Id"] == sent
    assert answer.json["request_id"] == sent


@pytest.mark.parametrize("sent", ["", "a" * 129, "one two", 'quo"te', "<script>", "é", "a\tb"])
def test_a_request_id_that_is_not_sane_is_replaced(client, sent):
    assert re.fullmatch(r"[0-9a-f]{32}", client.get("/healthz", headers={"X-Request-Id": sent}).headers["X-Request-Id"])


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/v1/stores", "/v1/me", "/docs"])
def test_every_answer_says_how_long_it_took_in_seconds(client, path):
    began = time.perf_counter()
    duration = client.get(path).headers["X-Request-Duration"]
    took_s = time.perf_counter() - began
    assert re.fullmatch(r"\d+\.\d+", duration)
    assert 0 < float(duration) < took_s


TIMING = r'cache;desc=(miss|hit), db;dur=(\d+\.\d+);desc="(\d+) (query|queries)", app;dur=(\d+\.\d+)'


def test_reads_say_where_the_time_went(client, make, path):
    user = make.user()
    answer = client.get(path, headers=make.auth(user))
    found = re.fullmatch(TIMING, answer.headers["Server-Timing"])
    assert found
    _, database, count, noun, rest = found.groups()
    assert (count, noun) == ("2", "queries")
    seconds = float(answer.headers["X-Request-Duration"])
    assert abs((float(database) + float(rest)) / 1000 - seconds) < 0.001


def test_a_refused_read_does_too(client):
    assert '"0 queries"' in client.get("/v1/me").headers["Server-Timing"]
    store = "/v1/stores/019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20"
    # The second asks whether it has moved.
    assert '"2 queries"' in client.get(store).headers["Server-Timing"]


def test_writes_and_health_do_not(client):
    assert "Server-Timing" not in client.post("/v1/users", json={}).headers
    assert "Server-Timing" not in client.get("/healthz").headers


def test_a_read_that_has_not_changed_says_so_too(client, path):
    etag = client.get(path).headers["ETag"]
    answer = client.get(path, headers={"If-None-Match": etag})
    assert answer.status_code == 304
    assert re.fullmatch(TIMING, answer.headers["Server-Timing"])


def lines(caplog, message):
    return [record for record in caplog.records if record.message == message]


def test_a_request_is_one_line_of_debugging(client, path, caplog):
    began = time.perf_counter()
    with caplog.at_level(logging.DEBUG, "dues.requests"):
        client.get(f"{path}?fields=id")
    took_s = time.perf_counter() - began
    (line,) = lines(caplog, "request")
    assert (line.method, line.route, line.status) == ("GET", "/v1/stores/{store_id}/packages/{package_id}", 200)
    assert (line.path, line.queries) == (path, 2)
    assert 0 < line.db_s < line.duration_s < took_s


def test_only_who_asks_for_them_gets_a_line_for_each_request(client, path, caplog):
    with caplog.at_level(logging.INFO, "dues.requests"):
        client.get(path)
    assert caplog.records == []


def test_neither_token_nor_query_nor_password_is_logged(client, make, caplog):
    headers = make.auth(make.user())
    with caplog.at_level(logging.DEBUG):
        client.get("/v1/stores?q=hunter2", headers=headers)
        client.post("/v1/tokens", json={"email": "a@example.com", "password": "hunter2hunter2"})
    text = "\n".join(str(vars(record)) for record in caplog.records)
    assert lines(caplog, "request")
    assert "hunter2" not in text
    assert headers["Authorization"].split()[1] not in text


def test_a_slow_request_is_a_warning(servers, make, path, caplog):
    client = create_app(servers.settings(slow_request_s=0.0)).test_client()
    with caplog.at_level(logging.INFO, "dues.requests"):
        client.get(path, headers={"traceparent": TRACE})
    (line,) = lines(caplog, "slow request")
    assert line.levelname == "WARNING"
    assert (line.route, line.queries) == ("/v1/stores/{store_id}/packages/{package_id}", 2)
    assert lines(caplog, "request") == []
    with client.application.app_context():
        db.engine.dispose()


def trace_of_a_request(servers, header):
    """The trace that code below the API sees during a request with this header."""
    seen = []

    def handler(call: Call) -> Reply:
        seen.append(current_trace())
        return no_content()

    fields = {"traceparent": header} if header is not None else {}
    with create_app(servers.settings()).app_context():
        answer(Route("GET", "/trace", handler, PUBLIC), {}, make_request("GET", "/trace", fields, "127.0.0.1"))
    return seen[0]


@pytest.mark.parametrize(
    "header",
    [
        TRACE,
        TRACE.replace("-01", "-00"),
        TRACE.replace("00-", "cc-", 1),
        TRACE.replace("00-", "cc-", 1) + "-what-the-future",
    ],
)
def test_a_trace_is_accepted_as_it_came(servers, header):
    assert trace_of_a_request(servers, header) == header


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "garbage",
        TRACE.upper(),
        TRACE + "-more",
        "ff" + TRACE[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
        TRACE[:-1],
    ],
)
def test_without_a_valid_trace_one_begins(servers, header):
    found = trace_of_a_request(servers, header)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-00", found)
    assert found != header


def test_the_trace_of_a_request_goes_into_its_jobs(client, make):
    owner = make.user()
    store = make.store(owner)
    body = {"kind": "payments", "format": "csv", "from": "2026-01-01T00:00:00Z", "to": "2026-02-01T00:00:00Z"}
    headers = {**make.auth(owner), "traceparent": TRACE}
    assert client.post(f"/v1/stores/{store.id}/reports", json=body, headers=headers).status_code == 202
    assert make.value("select trace from jobs") == TRACE
    assert current_trace() is None


@pytest.mark.parametrize(("seconds", "is_slow"), [(2.4, False), (2.6, True)])
def test_a_client_that_is_held_for_longer_than_it_wanted_has_a_slow_answer(caplog, seconds: float, is_slow: bool):
    request = make_request("GET", "/v1/jobs/1", {"prefer": "wait=2"}, "192.0.2.1")
    with caplog.at_level(logging.INFO, "dues.requests"):
        log_answered(request, "/v1/jobs/{job_id}", Reply(None, 304), seconds, held_s=seconds, slow_s=0.5)
    assert ("slow request" in caplog.text) == is_slow
