"""Reads that the server makes on its loop: the answers are Flask's, and they wait for none of its threads."""

import http.client
import json
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from types import SimpleNamespace as Row

import psycopg2.extensions
import pytest
import zstandard
from brotli import decompress
from flask import Flask

from dues.postgres import db
from tests.api.samples.declared import READS
from tests.api.world import World
from tests.factory import Factory
from tests.reads.freshness.conftest import connect
from tests.servers import Servers, wait_until
from tests.webserver import WebServer

# Another for each answer; or the server's own.
OWN = {"x-request-id", "x-request-duration", "server-timing", "ratelimit", "ratelimit-policy", "date", "server"}
DECODERS = {
    None: lambda body: body,
    "gzip": lambda body: zlib.decompress(body, 32 + zlib.MAX_WBITS),
    "br": decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}

Answer = tuple[int, dict[str, str], bytes]


@pytest.fixture(scope="module")
def web(servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, threads=1, RATE_LIMIT="100000/60", SLOW_REQUEST_S="0.05") as server:
        yield server


def ask(web: WebServer, path: str, auth: dict[str, str], **headers: str) -> Answer:
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)) as connection:
        connection.request("GET", path, headers=auth | {k.replace("_", "-"): v for k, v in headers.items()})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def lasting(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in OWN}


def is_made_on_the_loop(answer: Answer) -> bool:
    """Flask writes how long PostgreSQL took for nothing with two digits."""
    return bool(re.search(r"desc=miss, db;dur=[\d.]+;desc=\"1 query\"", answer[1].get("server-timing", "")))


def once_known(web: WebServer, path: str, auth: dict[str, str]) -> None:
    """Have the process know what this caller may do, and nothing of the answer that a test will ask for."""
    wait_until(lambda: "cache;desc=hit" in ask(web, path, auth)[1]["server-timing"], 10, "a kept answer")


def test_what_a_process_has_never_asked_of_its_database_is_asked_by_its_first_read(servers: Servers, make: Factory):
    """Whether Citus is there, say, which decides how lists over several stores are read."""
    auth = make.auth(make.user())
    with WebServer(servers, threads=1) as web:
        once_known(web, "/v1/me", auth)
        first = ask(web, "/v1/me/payments", auth)
    assert (first[0], is_made_on_the_loop(first)) == (200, True)


@pytest.mark.parametrize(
    ("encoding", "every"),
    [
        (None, 1),
        *((encoding, 8) for encoding in DECODERS if encoding),
        *(pytest.param(encoding, 1, marks=pytest.mark.wide) for encoding in DECODERS if encoding),
    ],
)
def test_each_read_is_what_flask_answers(
    app: Flask, servers: Servers, make: Factory, web: WebServer, encoding: str | None, every: int
):
    world = World(make, app)
    ids: dict[str, object] = {}
    for path in READS:
        ids |= world.target("GET", path)
    paths = [path.format_map(ids | {"user_id": world.customer.id}) for path in READS[::every]]
    auth = make.auth(world.owner)
    headers = {"Accept-Encoding": encoding} if encoding else {}
    on_loop = 0
    for path in paths:
        servers.forget()
        expected = app.test_client().get(path, headers=auth | headers)
        # At first what the token may do in the store is Flask's to look up; then the same list is asked for in words
        # that nobody has used.
        for words in (path, path + ("&" if "?" in path else "?&")):
            answer = ask(web, words, auth, **headers)
            status, found, body = answer
            assert status == expected.status_code, path
            if status == 200:
                assert lasting(found) == lasting({name.lower(): value for name, value in expected.headers}), path
                assert body == expected.data, path
                plain = DECODERS[found.get("content-encoding")](body)
                assert plain.startswith(b"%PDF-") if found["content-type"] == "application/pdf" else json.loads(plain)
            on_loop += is_made_on_the_loop(answer)
    assert on_loop > len(paths) * 0.8


def test_what_is_wrong_with_a_request_is_flasks_to_say(make: Factory, web: WebServer):
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    payments = f"/v1/stores/{store.id}/payments"
    once_known(web, payments, auth)
    for path, status, code in (
        (f"{payments}?status=paid", 400, "invalid_parameter"),
        (f"{payments}?cursor=forged", 400, "invalid_parameter"),
        (f"{payments}?page=2&nothing=1", 400, "invalid_parameter"),
        (f"{payments}/{store.id}", 404, "not_found"),
        (f"{payments}/{store.id}?fields=nothing", 404, "not_found"),
        (f"{payments}/{store.id}x", 404, "not_found"),
        (f"{payments}?q=%FF%00", 400, "invalid_parameter"),
    ):
        found, headers, body = ask(web, path, auth)
        problem = json.loads(body)
        assert (found, problem["code"]) == (status, code), path
        assert problem["request_id"] == headers["x-request-id"]


def test_reads_wait_for_no_thread(servers: Servers, make: Factory, web: WebServer):
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    path = f"/v1/stores/{store.id}/payments"
    once_known(web, path, auth)
    once_known(web, "/v1/me", auth)
    with closing(connect(servers)) as lock, lock.cursor() as cursor:
        cursor.execute("select from users where id = %s for update", (str(owner.id),))
        write = threading.Thread(target=change_name, args=(web, auth))
        write.start()
        try:
            wait_until(lambda: waits_for_lock(servers), 10, "the only thread to be busy")
            for number in range(1, 20):
                answer = ask(web, f"{path}?page={number}&per_page={number}", auth)
                assert answer[0] == 200
                assert is_made_on_the_loop(answer)
        finally:
            lock.rollback()
            write.join()


def change_name(web: WebServer, auth: dict[str, str]) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)) as connection:
        connection.request("PATCH", "/v1/me", '{"name":"Ada"}', auth | {"Content-Type": "application/json"})
        assert connection.getresponse().status == 200


def waits_for_lock(servers: Servers) -> bool:
    with connected(servers) as cursor:
        cursor.execute(
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        )
        return bool((cursor.fetchone() or (0,))[0])


@contextmanager
def connected(servers: Servers) -> Iterator[psycopg2.extensions.cursor]:
    with closing(connect(servers)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def test_two_hundred_at_once_on_one_cold_list_are_one_statement(make: Factory, web: WebServer):
    owner = make.user()
    auth = make.auth(owner)
    # On a machine so busy that Redis is not heard for a quarter of a second, those who wait for another's answer ask
    # PostgreSQL themselves; so it is tried on three lists.
    assert 1 in (_statements_of_two_hundred(make, web, owner, auth) for _ in range(3))


def _statements_of_two_hundred(make: Factory, web: WebServer, owner: Row, auth: dict[str, str]) -> int:
    store = make.store(owner)
    for _ in range(20):
        make.package(store)
    path = f"/v1/stores/{store.id}/packages"
    once_known(web, f"/v1/stores/{store.id}", auth)
    connections = [http.client.HTTPConnection("127.0.0.1", web.port, timeout=20) for _ in range(200)]
    statuses, statements = set(), 0
    try:
        for connection in connections:
            connection.connect()
        for connection in connections:
            connection.request("GET", path, headers=auth)
        for connection in connections:
            answer = connection.getresponse()
            answer.read()
            statuses.add(answer.status)
            statements += "1 query" in (answer.headers["Server-Timing"] or "")
    finally:
        for connection in connections:
            connection.close()
    assert statuses == {200}
    return statements


def test_connections_that_postgresql_ended_are_replaced(app: Flask, servers: Servers, make: Factory, web: WebServer):
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    path = f"/v1/stores/{store.id}/payments"
    once_known(web, path, auth)
    assert is_made_on_the_loop(ask(web, f"{path}?page=2", auth))
    # Those of this process are not to be ended with the server's.
    with app.app_context():
        db.engine.dispose()
    with connected(servers) as cursor:
        # Of this database alone: other tests share the server.
        cursor.execute(
            "select count(pg_terminate_backend(pid)) from pg_stat_activity"
            " where application_name = 'dues' and datname = current_database()"
        )
        assert (cursor.fetchone() or (0,))[0] > 0
    assert ask(web, f"{path}?page=3", auth)[0] == 200
    wait_until(lambda: is_made_on_the_loop(ask(web, f"{path}?per_page={next(numbers)}", auth)), 10, "a connection")


numbers = iter(range(1, 100))


def test_a_read_that_takes_long_is_logged_as_flask_logs_it(servers: Servers, make: Factory, web: WebServer):
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    path = f"/v1/stores/{store.id}/packages"
    once_known(web, f"/v1/stores/{store.id}", auth)
    found: list[Answer] = []
    with closing(connect(servers)) as lock, lock.cursor() as cursor:
        cursor.execute("lock table packages in access exclusive mode")
        read = threading.Thread(target=lambda: found.append(ask(web, path, auth, X_Request_Id="slow-read")))
        read.start()
        wait_until(lambda: waits_for_lock(servers), 10, "the read to wait")
        threading.Event().wait(0.1)
        lock.rollback()
        read.join()
    assert is_made_on_the_loop(found[0])
    wait_until(lambda: "slow-read" in web.log.read_text(), 10, "the line, which another thread writes")
    lines = [json.loads(line) for line in web.log.read_text().splitlines() if "slow-read" in line]
    assert [(line["level"], line["route"], line["queries"]) for line in lines] == [
        ("warning", "/v1/stores/{store_id}/packages", 1)
    ]


@pytest.mark.parametrize("encoding", ["zstd", "br", "gzip"])
def test_a_large_answer_is_compressed_as_flask_does_it(app: Flask, make: Factory, web: WebServer, encoding: str):
    owner = make.user()
    store, auth = make.store(owner), make.auth(owner)
    for _ in range(100):
        make.package(store, description="what members get " * 20)
    once_known(web, f"/v1/stores/{store.id}", auth)
    path = f"/v1/stores/{store.id}/packages?per_page=100"
    answer = ask(web, path, auth, Accept_Encoding=encoding)
    expected = app.test_client().get(path, headers=auth | {"Accept-Encoding": encoding})
    assert is_made_on_the_loop(answer)
    assert len(DECODERS[encoding](answer[2])) > 16_384
    assert (answer[1]["etag"], answer[2]) == (expected.headers["ETag"], expected.data)
