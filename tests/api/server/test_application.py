"""The server under gunicorn: slow senders and receivers cost no thread, and what is too much is refused."""

import gzip
import http.client
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from flask import Flask

from api.request import OPERATORS
from api.routing import Priority
from api.server import admission, application
from api.server.application import Application
from tests.api.server.loop_server import LoopServer
from tests.factory import Factory
from tests.servers import Servers, wait_until
from tests.webserver import WebServer


@pytest.fixture(scope="module")
def web(servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, threads=2) as server:
        yield server


def ask(web: WebServer, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=10)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_senders_of_a_byte_a_second_do_not_keep_others_waiting(web: WebServer):
    slow = [socket.create_connection(("127.0.0.1", web.port)) for _ in range(100)]
    head = b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{"
    for connection in slow:
        connection.sendall(head)
    try:
        for _ in range(5):
            for connection in slow:
                connection.sendall(b" ")
            # Two threads, a hundred bodies that do not end: a thread for each would leave none for this.
            assert ask(web, "GET", "/v1/stores")[0] == 200
    finally:
        for connection in slow:
            connection.close()


def test_a_body_past_the_bound_is_413_with_a_declared_length_and_without(web: WebServer):
    big = b"[" + b" " * 2_000_000 + b"]"
    status, body = ask(web, "POST", "/v1/users", big, Content_Type="application/json")
    assert (status, json.loads(body)["code"]) == (413, "payload_too_large")

    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=10)
    connection.request("POST", "/v1/users", iter([big]), {"Content-Type": "application/json"}, encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_ten_megabytes_of_zeros_in_ten_kilobytes_are_413(web: WebServer):
    bomb = gzip.compress(bytes(10_000_000))
    status, body = ask(web, "POST", "/v1/users", bomb, Content_Type="application/json", Content_Encoding="gzip")
    assert (status, json.loads(body)["code"]) == (413, "payload_too_large")


def test_one_that_gunicorn_gives_up_says_where_it_hangs_and_is_replaced(servers: Servers):
    """Gunicorn does so with SIGABRT, when it has heard nothing of a process for half a minute."""
    with WebServer(servers, threads=2) as web:
        [hanging] = web.children()
        os.kill(hanging, signal.SIGABRT)
        wait_until(lambda: web.children() not in (set(), {hanging}) and web._is_up(), 20, "another process")
    lines = [json.loads(line) for line in web.log.read_text().splitlines() if line.startswith("{")]
    [told] = [line for line in lines if "stack" in line]
    assert (told["level"], told["pid"], told["message"]) == ("critical", hanging, "the event loop hangs")
    assert "in run\n    uvloop.run(" in told["stack"]


def test_headers_with_underscores_are_not_taken_for_those_with_dashes(web: WebServer):
    connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=10)
    connection.putrequest("GET", "/v1/me")
    connection.putheader("Authorization", "Bearer no")
    connection.putheader("X_Request_Id", "spoofed")
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.getheader("X-Request-Id") != "spoofed"
    connection.close()


def test_two_hundred_clients_at_once_are_all_answered(web: WebServer):
    statuses: list[int] = []

    def visit() -> None:
        statuses.append(ask(web, "GET", "/v1/stores")[0])

    threads = [threading.Thread(target=visit) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 200


@pytest.mark.slow
def test_a_sender_that_stops_is_told_408(web: WebServer):
    connection = socket.create_connection(("127.0.0.1", web.port))
    connection.settimeout(25)
    connection.sendall(b"POST /v1/users HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n{")
    began = time.monotonic()
    answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - began < 25
    connection.close()
    wait_until(lambda: ask(web, "GET", "/healthz")[0] == 200)


def test_what_nobody_foresaw_is_a_problem_that_tells_nothing(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def fail(self: Application, exchange: object, **_: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(Application, "_serve", fail)
    with LoopServer(app) as server:
        status, headers, body = server.ask("GET", "/v1/stores")
    problem = json.loads(body)
    assert (status, problem["code"], problem["instance"]) == (500, "internal_error", "/v1/stores")
    assert b"secret" not in body
    assert headers["x-request-id"] == problem["request_id"]
    assert [record.request_id for record in caplog.records] == [problem["request_id"]]  # type: ignore[attr-defined]


def test_a_kept_answer_that_cannot_be_sent_is_a_problem(app: Flask, monkeypatch: pytest.MonkeyPatch):
    """And not a client that waits for ever: who asks together with it is answered by somebody else."""

    def fail(self: Application, *_: object) -> None:
        raise KeyError("nobody foresaw this")

    monkeypatch.setattr(Application, "_send_kept", fail)
    with LoopServer(app) as server:
        statuses = [server.ask("GET", "/v1/stores")[0] for _ in range(4)]
    assert statuses[0] == 200
    assert statuses[-1] == 500


def test_operators_are_answered_while_clients_take_every_thread(app: Flask):
    """Else a gateway would take out a web server that has much to do, and the others would have the more."""
    threads = app.extensions["settings"].web_threads
    done = threading.Event()
    with LoopServer(app) as server:
        application = server.application

        async def take_all() -> None:
            for client in range(threads):
                await application._admission.take(Priority.WRITE, (client,))
                application._threads.call(done.wait, 30)

        server.run(take_all)
        try:
            assert {path: server.ask("GET", path)[0] for path in sorted(OPERATORS)} == dict.fromkeys(OPERATORS, 200)
            assert server.ask("GET", "/readyz?ignore=redis")[0] == 200
        finally:
            done.set()


def test_a_file_that_is_turned_away_is_turned_away_before_a_thread_looks_at_it(
    app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch
):
    looked: list[object] = []
    monkeypatch.setattr(application, "admit_upload", lambda *args: looked.append(args))
    monkeypatch.setattr(admission, "_PATIENCE_S", dict.fromkeys(Priority, 0.01))
    user = make.user()
    path, headers = f"/v1/stores/{make.store(user).id}/imports?kind=members", {"Content-Type": "text/csv"}
    with LoopServer(app) as server:

        async def take_all() -> None:
            for client in range(app.extensions["settings"].web_threads):
                await server.application._admission.take(Priority.WRITE, (client,))

        server.run(take_all)
        status, _, body = server.ask("POST", path, make.auth(user) | headers, b"a")
        assert (status, json.loads(body)["code"]) == (503, "overloaded")
    assert looked == []
