"""Liveness, readiness and metrics."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial

import psycopg2
import pytest
from flask.testing import FlaskClient

from api import system
from api.app import create_app
from dues import VERSION
from dues.postgres import db
from dues.postgres.pool import pool_of
from tests.servers import Servers, taking_no_writes, wait_until

NOWHERE = "postgresql://nobody:hunter2@127.0.0.1:1/none"


def other(servers: Servers, **changes: object) -> FlaskClient:
    """A client of an application with other settings."""
    return create_app(servers.settings(**changes)).test_client()


def test_alive_asks_nothing(servers, queries):
    client = other(servers, database_url=NOWHERE, redis_url="redis://127.0.0.1:1")
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_wish_for_another_protocol_is_passed_over(client):
    answer = client.get("/healthz", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})


def test_ready(client):
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (200, {"status": "ready"})


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"database_url": NOWHERE}, ["database"]),
        ({"redis_url": "redis://:hunter2@127.0.0.1:1"}, ["redis"]),
        ({"cache_redis_url": "redis://:hunter2@127.0.0.1:1"}, ["redis"]),
        ({"database_url": NOWHERE, "redis_url": "redis://127.0.0.1:1"}, ["database", "redis"]),
    ],
)
def test_not_ready_names_what_is_missing_and_no_secret(servers, changes, missing):
    answer = other(servers, **changes).get("/readyz")
    assert (answer.status_code, answer.mimetype) == (503, "application/problem+json")
    assert answer.json
    assert answer.json["missing"] == missing
    assert answer.headers["Retry-After"]
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("why", ["full", "replica"])
def test_a_redis_that_takes_no_writes_is_missing(client, servers: Servers, why: str):
    with taking_no_writes(servers.redis, why):
        answer = client.get("/readyz")
        assert (answer.status_code, answer.json["missing"]) == (503, ["redis"])
        assert answer.json["detail"] == "redis takes no writes"
        assert client.get("/readyz?ignore=redis").status_code == 200
    assert client.get("/readyz").status_code == 200


def test_the_log_says_once_what_the_servers_said(servers, caplog: pytest.LogCaptureFixture):
    without = other(servers, database_url=NOWHERE, redis_url="redis://:hunter2@127.0.0.1:1")
    for _ in range(3):
        assert without.get("/readyz").status_code == 503
    [said] = [record.getMessage() for record in caplog.records if record.name == "dues.readiness"]
    assert said.startswith("not ready: database is not there, or has no connection left; redis is not there (")
    assert "port 1 failed: Connection refused; Error 111 connecting to 127.0.0.1:1" in said
    assert "hunter2" not in said


def test_who_can_do_without_redis_says_so(servers, client):
    without = other(servers, redis_url="redis://127.0.0.1:1")
    assert without.get("/readyz").status_code == 503
    assert without.get("/readyz?ignore=redis").json == {"status": "ready"}
    missing = other(servers, database_url=NOWHERE).get("/readyz?ignore=redis").json
    assert missing
    assert missing["missing"] == ["database"]
    for query in ("ignore=database", "ignore=", "ignore=redis&ignore=redis"):
        refused = client.get(f"/readyz?{query}")
        assert (refused.status_code, refused.json["code"]) == (400, "invalid_parameter")


def test_not_ready_before_the_migrations(client, make):
    revision = make.value("select version_num from alembic_version")
    make.rows("delete from alembic_version")
    try:
        answer = client.get("/readyz")
    finally:
        make.rows("insert into alembic_version values (%(revision)s)", {"revision": revision})
    assert (answer.status_code, answer.json["missing"]) == (503, ["migrations"])


def test_a_busy_pool_does_not_make_it_unready(servers):
    app = create_app(servers.settings(db_pool_size=1, db_pool_timeout_s=0.01))
    with app.app_context():
        held = db.engine.connect()
        try:
            assert app.test_client().get("/readyz").status_code == 200
        finally:
            held.close()
            db.engine.dispose()


def value(text: str, name: str, **labels: str) -> float:
    """A metric's value in Prometheus' text, 0 where it is not."""
    for line in text.splitlines():
        if line.startswith((f"{name} ", f"{name}{{")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            return float(line.rpartition(" ")[2])
    return 0.0


def test_requests_are_counted_by_method_route_and_status(client, make):
    store = make.store()
    route = "/v1/stores/{store_id}/packages"
    labels = {"method": "GET", "route": route, "status": "200"}
    before = value(client.get("/metrics").text, "dues_http_request_duration_seconds_count", **labels)
    client.get(f"/v1/stores/{store.id}/packages")
    text = client.get("/metrics").text
    assert value(text, "dues_http_request_duration_seconds_count", **labels) == before + 1
    assert value(text, "dues_http_request_duration_seconds_bucket", **labels, le="+Inf") == before + 1
    assert str(store.id) not in text


def test_what_is_made_up_is_counted_together(client):
    for path in ("/v1/made-up", "/wp-login.php"):
        client.get(path)
    client.open("/healthz", method="BREW")
    text = client.get("/metrics").text
    assert value(text, "dues_http_request_duration_seconds_count", route="unmatched", status="404") >= 2
    assert "wp-login" not in text
    assert "BREW" not in text


def test_pool_queues_and_build_are_measured(client, make):
    client.get(f"/v1/stores/{make.store().id}")
    text = client.get("/metrics").text
    assert value(text, "dues_build_info", version=VERSION) == 1
    assert value(text, "dues_database_up") == 1
    assert value(text, "dues_db_pool_size") >= 1
    assert value(text, "dues_db_pool_open") >= 1
    for name in ("depth", "latency_seconds", "relay_lag_seconds", "running", "expired_leases"):
        assert f'dues_queue_{name}{{queue="critical"}}' in text


def test_depth_and_latency_of_a_queue(client, make):
    make.rows(
        "insert into jobs(id, kind, queue, run_at) values"
        " (gen_random_uuid(), 'report.build', 'slow', now() - interval '90 s'),"
        " (gen_random_uuid(), 'report.build', 'slow', now())"
    )
    text = client.get("/metrics").text
    assert value(text, "dues_queue_depth", queue="slow") == 2
    assert 90 <= value(text, "dues_queue_latency_seconds", queue="slow") < 120


def test_who_waits_for_a_connection_is_counted(servers):
    app = create_app(servers.settings(db_pool_size=1, db_pool_timeout_s=0.01))
    client = app.test_client()
    before = client.get("/metrics").text
    with app.app_context():
        held = db.engine.connect()
        try:
            assert client.get("/v1/stores").status_code == 503
        finally:
            held.close()
    after = client.get("/metrics").text
    assert value(after, "dues_db_pool_waits_total") == value(before, "dues_db_pool_waits_total") + 1
    assert value(after, "dues_db_pool_timeouts_total") == value(before, "dues_db_pool_timeouts_total") + 1
    with app.app_context():
        db.engine.dispose()


def test_metrics_without_a_database_say_so(servers):
    text = other(servers, database_url=NOWHERE).get("/metrics").text
    assert value(text, "dues_database_up") == 0
    assert "dues_database_up 0" in text
    assert 'queue="critical"' not in text


def say_nothing(connection: socket.socket) -> None:
    """As a server does that hangs."""


def let_in(connection: socket.socket) -> None:
    """As a pooler does that has nobody behind it (PostgreSQL's protocol, 54.7): then nothing more."""
    while connection.recv(1024)[4:8] in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):
        # Neither TLS nor GSSAPI.
        connection.sendall(b"N")
    parameters = {
        "server_version": "18.0",
        "server_encoding": "UTF8",
        "client_encoding": "UTF8",
        "TimeZone": "UTC",
        "DateStyle": "ISO, MDY",
    }
    said = [
        ("R", b"\0\0\0\0"),
        *(("S", f"{name}\0{text}\0".encode()) for name, text in parameters.items()),
        ("Z", b"I"),
    ]
    connection.sendall(b"".join(kind.encode() + (len(data) + 4).to_bytes(4) + data for kind, data in said))


@contextmanager
def hanging(greet: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that greets and says nothing more, for 40 s at most: who waits for ever is let go then."""
    held: list[socket.socket] = []

    def accept() -> None:
        with suppress(OSError):
            while True:
                held.append(silent.accept()[0])
                greet(held[-1])

    def let_go() -> None:
        for connection in held:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        accepting, at_last = threading.Thread(target=accept, daemon=True), threading.Timer(40, let_go)
        accepting.start()
        at_last.start()
        try:
            yield silent.getsockname()[1]
        finally:
            at_last.cancel()
            silent.shutdown(socket.SHUT_RDWR)
            let_go()
            accepting.join()
            for connection in held:
                connection.close()


@pytest.mark.parametrize("greet", [say_nothing, let_in])
def test_operators_are_told_in_time_while_a_database_says_nothing(servers, greet: Callable[[socket.socket], None]):
    """Whoever collects metrics gives up after ten seconds."""
    with hanging(greet) as port:
        client = other(servers, database_url=f"postgresql://nobody:hunter2@127.0.0.1:{port}/none", db_prepare=False)
        for path, told in {"/metrics": "dues_database_up 0", "/readyz": '"missing":["database"]'}.items():
            began = time.monotonic()
            assert told in client.get(path).text
            # Two seconds, and what a busy machine makes of the rest: the page of a process of many tests
            # is long. Whoever waits for this database is let go after 40 s.
            assert time.monotonic() - began < 20


def test_operators_are_told_in_time_while_tables_are_locked(client, app, servers, monkeypatch: pytest.MonkeyPatch):
    """And no connection of the pool is taken for lost: PostgreSQL is well."""
    monkeypatch.setattr(system, "_METRICS_S", 1.0)
    with app.app_context():
        pool = pool_of(db.engine)
    monkeypatch.setattr(pool, "forget_older", partial(pytest.fail, "the pool is made anew"))
    invalid_since = pool._invalidate_time
    with closing(psycopg2.connect(servers.database_url)) as other, other.cursor() as cursor:
        cursor.execute("lock table jobs, email_sends, store_moves, circuit_breakers in access exclusive mode")
        began = time.monotonic()
        text = client.get("/metrics").text
        # Each of the questions would wait for 15.
        assert time.monotonic() - began < 14
    assert "dues_database_up 0" in text
    assert pool._invalidate_time == invalid_since
    wait_until(lambda: "dues_database_up 1" in client.get("/metrics").text)


def test_metrics_are_asked_for_on_the_connections_that_are_left(client, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> None:
        raise psycopg2.OperationalError("FATAL: sorry, too many clients already")

    monkeypatch.setattr(system, "connect", refuse)
    text = client.get("/metrics").text
    assert value(text, "dues_database_up") == 1
    assert 'dues_queue_depth{queue="critical"}' in text


def test_metrics_may_ask_for_a_token(servers):
    client = other(servers, metrics_token="hunter2")
    assert client.get("/metrics").status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer hunter"}).status_code == 401
    assert client.get("/metrics", headers={"Authorization": "Bearer hunter2"}).status_code == 200


def test_gunicorn_adds_up_its_processes_and_logs_json(servers, tmp_path):
    """Two processes, one of them killed on the way: what it counted stays, what it had open goes."""
    sock = tmp_path / "web.sock"
    output = tmp_path / "out"
    command = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "--bind", f"unix:{sock}", "server:app"]
    environment = servers.environ(WEB_CONCURRENCY="2", DUES_HOME=str(tmp_path), PORT="1", WEB_THREADS="2")
    with output.open("wb") as lines:
        server = subprocess.Popen(command, env=environment, stdout=lines, stderr=subprocess.STDOUT)

    def get(path: str) -> str:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            try:
                connection.connect(str(sock))
                connection.sendall(f"GET {path} HTTP/1.0\r\nHost: x\r\n\r\n".encode())
                return b"".join(iter(partial(connection.recv, 65536), b"")).decode()
            except ConnectionError:
                return ""

    try:
        wait_until(lambda: sock.exists() and "status" in get("/healthz"), 30, "the server")
        for _ in range(20):
            get("/v1/stores")
        counted = {"route": "/v1/stores", "status": "200"}
        # Hits are entered four times a second.
        name = "dues_http_request_duration_seconds_count"
        wait_until(lambda: value(get("/metrics"), name, **counted) == 20, 10, "all of them to be counted")
        lines = output.read_text()
        pids = re.findall(r'"message":"Booting worker with pid: (\d+)"', lines)
        assert len(pids) == 2, lines
        assert value(get("/metrics"), "dues_db_pool_size") >= 10
        os.kill(int(pids[0]), signal.SIGKILL)
        wait_until(lambda: output.read_text().count("Booting worker") == 3, 15, "the new process")
        text = get("/metrics")
        assert value(text, "dues_http_request_duration_seconds_count", **counted) == 20
        assert not list((tmp_path / "metrics-1").glob(f"gauge_live*_{pids[0]}.db"))
    finally:
        server.send_signal(signal.SIGTERM)
        assert server.wait(30) == 0
    for line in output.read_text().splitlines():
        assert re.fullmatch(r'\{"ts":".*"level":".*\}', line), line
