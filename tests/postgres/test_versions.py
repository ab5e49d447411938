"""A PostgreSQL that is too old is refused with a message that says so, and not by a statement that it cannot run."""

import re
from collections.abc import Iterator

import pytest
from flask import Flask

from api.app import create_app
from dues.postgres import db, sessions
from tests.servers import Servers

TOO_OLD = re.compile(r"PostgreSQL \d+\.\d+.* is too old: Dues needs 1000 or newer")


@pytest.fixture(params=[True, False], ids=["prepares", "behind a proxy"])
def app(servers: Servers, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    monkeypatch.setattr(sessions, "OLDEST", 1000)
    app = create_app(servers.settings(db_prepare=request.param))
    yield app
    with app.app_context():
        db.engine.dispose()


def test_a_release_stops_at_one(app: Flask):
    result = app.test_cli_runner().invoke(args=["migrate"])
    assert result.exit_code == 1
    assert TOO_OLD.search(result.output)


def test_a_web_server_is_not_ready_on_one(app: Flask):
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert answer.json
    assert TOO_OLD.search(answer.json["detail"])
