"""A release meets the tables of another: what it cannot do it says by name, and nothing of it is a bug."""

import json
import logging
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from api.routing import Route
from dues.ids import new_id
from dues.postgres import db, release
from dues.postgres.revisions import FOLDER, revisions
from tests.api.test_complete import ROUTES
from tests.factory import Factory
from tests.forks import flask_command
from tests.servers import Servers, create_database, drop_database, wait_until
from tests.webserver import WebServer
from workers import app as worker_app
from workers.app import wait_for_migrations

NEWEST = revisions(FOLDER)[-1]
BEHIND, AHEAD = "0001", "9999"
NOWHERE = "postgresql://nobody:hunter2@127.0.0.1:1/none"


@pytest.fixture(scope="module")
def unmigrated(servers: Servers) -> Iterator[str]:
    """The URL of a database that `flask migrate` was forgotten for."""
    url = urlsplit(servers.database_url)
    name = f"{url.path[1:]}_unmigrated"
    create_database(servers.database_url, name)
    yield url._replace(path=f"/{name}").geturl()
    drop_database(servers.database_url, name)


@pytest.fixture(scope="module")
def without_tables(servers: Servers, unmigrated: str) -> Iterator[Flask]:
    app = create_app(servers.settings(database_url=unmigrated))
    yield app
    with app.app_context():
        db.engine.dispose()


@pytest.fixture
def at(make: Factory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """`at(revision)`: packages lack a column that this release asks for, and the database says that it stands there."""
    monkeypatch.setattr(release, "_LOOK_EVERY_S", 0.0)
    make.rows("alter table packages rename column description to described")
    yield lambda revision: make.rows("update alembic_version set version_num = %(it)s", {"it": revision})
    make.rows("alter table packages rename column described to description")
    make.rows("update alembic_version set version_num = %(it)s", {"it": NEWEST})


def call(client: FlaskClient, route: Route, **fields: str) -> Any:
    path = route.path
    for name in route.id_names:
        path = path.replace(f"{{{name}}}", str(new_id()))
    return client.open(path, method=route.method, headers=fields, data=b"{}", content_type="application/json")


@pytest.mark.parametrize(
    ("fields", "least"), [({}, 10), ({"Authorization": f"Bearer dues_{'a' * 43}"}, 100)], ids=["stranger", "token"]
)
def test_no_route_has_an_internal_error(without_tables: Flask, fields: dict[str, str], least: int) -> None:
    client = without_tables.test_client()
    found: dict[str, int] = {}
    for route in ROUTES:
        answer = call(client, route, **fields)
        found[f"{route.method} {route.path}"] = answer.status_code
        if answer.status_code == 503:
            assert (answer.json["code"], answer.headers["Retry-After"]) == ("migrations_missing", "1"), answer.json
            assert answer.json["detail"] == "the database has not been migrated to this release yet"
    assert {route: status for route, status in found.items() if status >= 500 and status != 503} == {}
    assert list(found.values()).count(503) >= least


def test_the_server_of_events_says_the_same(servers: Servers, unmigrated: str) -> None:
    def ask(method: str, path: str, body: object = None, **fields: str) -> tuple[int, Any]:
        connection = HTTPConnection("127.0.0.1", web.port, timeout=20)
        sent = None if body is None else json.dumps(body)
        connection.request(method, path, sent, {"Content-Type": "application/json", **fields})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)

    with WebServer(servers, DATABASE_URL=unmigrated) as web:
        status, ready = ask("GET", "/readyz?ignore=redis")
        assert (status, ready["missing"]) == (503, ["migrations"])
        token = {"Authorization": f"Bearer dues_{'a' * 43}"}
        user = {"email": "ada@example.org", "password": "correct horse battery", "name": "Ada"}
        for method, path, body, fields in (
            ("GET", "/v1/stores", None, {}),
            ("GET", f"/v1/stores/{new_id()}/packages?include=store", None, {}),
            ("GET", "/v1/me", None, token),
            ("GET", f"/v1/jobs/{new_id()}", None, {**token, "Prefer": "wait=1"}),
            ("GET", f"/v1/jobs/{new_id()}/events", None, token),
            ("POST", "/v1/users", user, {"Idempotency-Key": str(new_id())}),
        ):
            status, problem = ask(method, path, body, **fields)
            assert (status, problem["code"]) == (503, "migrations_missing"), (path, problem)
        with urllib.request.urlopen(f"{web.url}/metrics", timeout=10) as metrics:
            assert metrics.status == 200
    assert "Traceback" not in web.log.read_text()


@pytest.mark.parametrize(
    ("revision", "status", "code"),
    [(BEHIND, 503, "migrations_missing"), (AHEAD, 503, "release_outdated"), (NEWEST, 500, "internal_error")],
)
def test_a_column_that_is_not_there(
    at: Any, client: FlaskClient, make: Factory, revision: str, status: int, code: str
) -> None:
    """With the migrations of this very release it is a bug, and stays one."""
    owner = make.user()
    store = make.store(owner)
    at(revision)
    packages = f"/v1/stores/{store.id}/packages"
    package = {"name": "Gold", "amount": 500, "currency": "EUR", "interval": "month", "description": "All of it"}
    for answer in (client.get(packages), client.post(packages, json=package, headers=make.auth(owner))):
        assert answer.json
        assert (answer.status_code, answer.json["code"]) == (status, code)


def test_a_release_goes_on_with_tables_that_are_ahead(client: FlaskClient, make: Factory) -> None:
    make.rows("update alembic_version set version_num = %(it)s", {"it": AHEAD})
    try:
        assert client.get("/readyz?ignore=redis").status_code == 200
        assert client.get("/v1/stores").status_code == 200
    finally:
        make.rows("update alembic_version set version_num = %(it)s", {"it": NEWEST})


def test_workers_and_relays_wait_and_say_so_once(
    servers: Servers, unmigrated: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_app, "_LOOK_EVERY_S", 0.0)
    app = Flask("waits")
    looks, urls = [0], iter([NOWHERE] * 5 + [unmigrated] * 15 + [servers.database_url])

    def standing(_: object) -> Any:
        looks[0] += 1
        return release.standing(servers.settings(database_url=next(urls)))

    monkeypatch.setattr(worker_app, "standing", standing)
    app.extensions["settings"] = servers.settings()
    with caplog.at_level(logging.WARNING, "dues.worker"):
        wait_for_migrations(app)
    assert looks == [21]
    away, *others = [record.getMessage() for record in caplog.records]
    assert away.startswith("waiting for the database: the database is not available: ")
    assert "hunter2" not in away
    assert others == [
        "waiting for migrations: the database is without any migration, and this release needs"
        f" {NEWEST}: flask --app wsgi migrate",
        "the database is ready: beginning",
    ]


def test_who_waits_for_migrations_can_be_stopped(
    servers: Servers, unmigrated: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_app, "_LOOK_EVERY_S", 0.01)
    app = Flask("waits")
    app.extensions["settings"] = servers.settings(database_url=unmigrated)
    stopping: list[bool] = []
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait_for_migrations, app, lambda: bool(stopping))
        assert not waiting.done()
        stopping.append(True)
        wait_until(waiting.done, 10, "it to stop waiting")
        assert waiting.exception() is None


def test_a_queue_is_not_drained_before_the_migrations(servers: Servers, unmigrated: str) -> None:
    done = flask_command("jobs", "drain", "slow", environ=servers.environ(DATABASE_URL=unmigrated))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "slow is not drained: the database is without any migration, and this release needs"
        f" {NEWEST}: flask --app wsgi migrate",
    )
    assert "Traceback" not in done.stderr
