"""What the gateway's questions have the directory do counts against whoever sends the requests."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from flask import Flask

from api.app import create_app
from dues.cells.question import Question
from dues.ids import new_id
from tests.api.server.loop_server import LoopServer
from tests.cells.conftest import Name, _dispose, ask

QUOTA = 10

# Asks the directory about a GET of a path, sent from an address with these header fields. Returns: the status.
Asker = Callable[..., int]


def _fields(path: str, address: str, auth: dict[str, str]) -> dict[str, str]:
    return {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": path, "X-Forwarded-For": address, **auth}


def _by_the_server(app: Flask, until: ExitStack) -> Asker:
    server = until.enter_context(LoopServer(app))
    return lambda path, address, **auth: (
        ask(server.port, "GET", "/cells/question", **_fields(path, address, auth)).status
    )


def _by_flask(app: Flask, until: ExitStack) -> Asker:
    client = app.test_client()
    return lambda path, address, **auth: client.get("/cells/question", headers=_fields(path, address, auth)).status_code


@pytest.fixture(params=[_by_the_server, _by_flask], ids=["server", "flask"])
def question(name: Name, request: pytest.FixtureRequest) -> Iterator[Asker]:
    directory = name.directory
    settings = {**directory.settings, "rate_limit": f"{QUOTA}/60", "forwarded_allow_ips": "127.0.0.1"}
    with ExitStack() as until:
        app = create_app(directory.servers.settings(**settings))
        until.callback(_dispose, app)
        yield request.param(app, until)


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """The questions that PostgreSQL was asked."""
    found: list[Question] = []
    statement = Question.statement

    def noting(question: Question) -> object:
        found.append(question)
        return statement(question)

    monkeypatch.setattr(Question, "statement", noting)
    return found


def test_strangers_make_no_more_work_than_their_quota(name: Name, question: Asker, statements: list[Question]):
    """However they call what is not there: each would be a statement, and an answer that is kept."""
    make = name.directory.make
    user = make.auth(make.user())
    kinds: list[Callable[[], tuple[str, dict[str, str]]]] = [
        lambda: (f"/v1/stores/{new_id()}", {}),
        lambda: (f"/v1/stores/{new_id()}", {"Authorization": f"Bearer {new_id().hex}"}),
        lambda: (f"/v1/jobs/{new_id()}", {"Authorization": f"Bearer {new_id().hex}"}),
        lambda: (f"/v1/stores/{new_id()}", user),
    ]
    for number, kind in enumerate(kinds):
        statements.clear()
        statuses = []
        for _ in range(QUOTA + 5):
            path, auth = kind()
            statuses.append(question(path, f"192.0.2.{number}", **auth))
        # The first with a token that nobody knew has turned out to be the user's, and is given back to the address.
        assert statuses.count(429) in (4, 5), (number, statuses)
        assert len(statements) <= QUOTA + 1


def test_what_is_kept_counts_for_nothing(name: Name, question: Asker):
    make = name.directory.make
    user, store = make.auth(make.user()), new_id()
    for auth in ({}, user):
        assert {question(f"/v1/stores/{store}", "192.0.2.9", **auth) for _ in range(2 * QUOTA)} == {200}


def test_good_tokens_do_not_count_for_their_common_address(name: Name, question: Asker):
    """Nor does who is known share the fate of a stranger beside them."""
    make = name.directory.make
    users = [make.auth(make.user()) for _ in range(QUOTA + 2)]
    path, address = f"/v1/stores/{new_id()}", "192.0.2.10"
    assert [question(path, address, **user) for user in users] == [200] * len(users)
    assert question(f"/v1/stores/{new_id()}", address) == 200
    assert 429 in [question(f"/v1/stores/{new_id()}", address) for _ in range(QUOTA)]
    assert question(f"/v1/stores/{new_id()}", address, **users[0]) == 200
