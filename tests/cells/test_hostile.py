"""Strangers between the gateway and the cells, and in front of it."""

import time
from typing import Any

import pytest

from api import long_poll
from api.app import create_app
from config import ConfigError
from dues.cells import assertion, signatures
from dues.cells.signatures import check_cells
from dues.ids import new_id
from tests.api.server.loop_server import LoopServer
from tests.cells.conftest import KEY, Answer, Client, Name, _dispose, ask

SAID, CELL = "X-Dues-Assertion", "X-Dues-Cell"


def question(name: Name, method: str, path: str, **fields: str) -> Answer:
    """As the gateway asks the directory."""
    forwarded = {"X-Forwarded-Method": method, "X-Forwarded-Uri": path}
    return name.directory.ask("GET", "/cells/question", **forwarded, **fields)


def said_of(client: Client, method: str, path: str) -> str:
    answer = question(client.name, method, path, **client.auth)
    assert answer.status == 200, answer
    return answer.headers["x-dues-assertion"]


@pytest.fixture
def ada(name: Name) -> Client:
    return name.client_of("a")


def test_a_cell_lets_nobody_in_whom_the_directory_has_not_vouched_for(name: Name, ada: Client):
    path, cell, other = f"{ada.store.path}/payments", name.cells["a"], name.cells["b"]
    said = said_of(ada, "GET", path)
    assert cell.ask("GET", path, **ada.auth, **{SAID: said}).status == 200
    assert cell.ask("GET", path, **ada.auth, **{SAID: said}).status == 200
    bob = name.sign_up()
    refused = [
        cell.ask("GET", path, **ada.auth),
        cell.ask("GET", path, **bob.auth, **{SAID: said}),
        cell.ask("GET", f"{ada.store.path}/packages", **ada.auth, **{SAID: said}),
        cell.ask("HEAD", path, **ada.auth, **{SAID: said}),
        cell.ask("POST", path, {}, **ada.auth, **{SAID: said}),
        cell.ask("GET", path, **ada.auth, **{SAID: said[:-1] + ("0" if said[-1] != "0" else "1")}),
        cell.ask("GET", path, **ada.auth, **{SAID: "..." + "0" * 64}),
        cell.ask("GET", path, **ada.auth, **{SAID: f"{said}, {said}"}),
        other.ask("GET", path, **ada.auth, **{SAID: said}),
        cell.ask("GET", path, **ada.auth, X_Dues_Assertion=said),
    ]
    assert [answer.status for answer in refused] == [421] * len(refused)
    # Without a token it says what everybody may know, and nothing more for an assertion.
    assert cell.ask("GET", path, **{SAID: said}).status == 401


def test_what_the_directory_has_said_holds_for_a_minute(name: Name, ada: Client, monkeypatch: pytest.MonkeyPatch):
    """With clocks that are some seconds apart."""
    path = f"{ada.store.path}/payments"
    facts = said_of(ada, "GET", path).partition(".")[0]
    for age_s, status in {0: 200, 50: 200, 70: 503, 3600: 503, -10: 200, -30: 503}.items():
        monkeypatch.setattr(assertion, "stamp", lambda age_s=age_s: str(int(time.time()) - age_s))
        with name.directory.app.app_context():
            said = assertion.write(signatures.key_with("a"), facts, "GET", path, ada.token)
        assert (age_s, name.cells["a"].ask("GET", path, **ada.auth, **{SAID: said}).status) == (age_s, status)


def test_what_was_said_of_a_token_is_void_once_the_cell_has_heard_that_it_is_revoked(name: Name, ada: Client):
    """Between the two, at most what was under way is done: it was asserted before the token was revoked."""
    path, cell = f"{ada.store.path}/payments", name.cells["a"]
    said = said_of(ada, "GET", path)
    assert ada.ask("DELETE", f"/v1/tokens/{ada.token_id}").status == 204
    assert question(name, "GET", path, **ada.auth).status == 401
    name.directory.work()
    assert cell.ask("GET", path, **ada.auth, **{SAID: said}).status == 401
    # Nor does it come to life in a cell that has never seen it.
    bob = name.client_of("b")
    other = name.sign_up()
    path, said = f"{bob.store.path}/payments", said_of(other, "GET", f"{bob.store.path}/payments")
    assert other.ask("DELETE", f"/v1/tokens/{other.token_id}").status == 204
    name.directory.work()
    assert name.cells["b"].ask("GET", path, **other.auth, **{SAID: said}).status == 401


def test_a_stream_ends_also_where_its_cell_is_told_nothing(name: Name, ada: Client, monkeypatch: pytest.MonkeyPatch):
    """Its client asks anew, and then the directory is asked."""
    monkeypatch.setattr(long_poll, "LIFE_S", 0.5)
    path, cell = f"{ada.pay(ada.store).headers['location']}/events", name.cells["a"]
    said = said_of(ada, "GET", path)
    assert ada.ask("DELETE", f"/v1/tokens/{ada.token_id}").status == 204
    app = create_app(cell.servers.settings(**cell.settings))
    with LoopServer(app) as server:
        answer = ask(server.port, "GET", path, **ada.auth, **{SAID: said})
    _dispose(app)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    assert question(name, "GET", path, **ada.auth).status == 401


def test_nothing_is_smuggled_past_the_gateway(name: Name, ada: Client):
    bob = name.sign_up()
    path = f"{ada.store.path}/packages"
    said = said_of(ada, "POST", path)
    package = {"name": "Gold", "amount": 1200, "currency": "EUR", "interval": "month"}
    for fields in ({SAID: said}, {SAID: said, CELL: "a"}, {SAID.lower(): said}, {"X_Dues_Assertion": said}):
        assert bob.ask("POST", path, package, **fields).status == 403
        assert name.ask("POST", path, package, **fields).status == 401
    # Where a request goes, and what it is said to be, is not a client's to say either.
    for fields in ({CELL: "b"}, {CELL: "directory"}, {"X-Forwarded-Uri": "/v1/me", "X-Forwarded-Method": "PUT"}):
        assert ada.ask("GET", f"{ada.store.path}/payments", **fields).status == 200
    for inner in ("/cells/question", "/cells/people", f"/cells/jobs/{new_id()}", "/metrics", "/readyz"):
        assert ada.ask("GET", inner).status == 404


def test_the_question_is_read_and_nothing_else(name: Name, ada: Client):
    """Whatever the method of the request is that it is about."""
    path = f"{ada.store.path}/payments"
    fields = {"X-Forwarded-Method": "POST", "X-Forwarded-Uri": path, **ada.auth}
    for method, status in (("GET", 200), ("HEAD", 200), ("POST", 405), ("PUT", 405), ("DELETE", 405)):
        assert (method, name.directory.ask(method, "/cells/question", **fields).status) == (method, status)


SPELLINGS = r"""
    /v1/%73tores/{id}/payments   //v1/stores/{id}/payments      /v1//stores/{id}/payments
    /v1/jobs/../stores/{id}/payments
    /v1/stores/{id}/./payments   /v1/users/..%2fstores/{id}/payments                       /V1/STORES/{id}/payments
    /v1/stores/{id}%2fpayments   /v1/stores/{id}/payments/      /v1/stores/{id}/payments%00  /v1\stores\{id}\payments
"""


def test_a_path_has_one_spelling_here_too(name: Name, ada: Client):
    for spelling in SPELLINGS.split():
        status, _ = name.raw("GET", spelling.format(id=ada.store.id), [], ada.auth)
        assert (spelling, status) in ((spelling, 400), (spelling, 404))
    # An id in capitals is the same.
    assert name.raw("GET", f"/v1/stores/{ada.store.id.upper()}/payments", [], ada.auth)[0] == 200


def test_a_stranger_who_reaches_the_servers_inside_is_told_nothing(name: Name, ada: Client):
    cell, store = name.cells["a"], ada.store.id
    person: dict[str, Any] = {"person": {"id": ada.id, "name": "Eve"}, "revoked": []}
    signed = {"X-Dues-Signed": f"{int(time.time())}." + "0" * 64, "X-Dues-Signed-By": "a"}
    placing = {"store_id": store, "to": "b", "checks": False}
    for fields in ({}, signed):
        assert cell.ask("POST", "/cells/people", person, **fields).status == 421
        assert cell.ask("GET", f"/cells/stores/{store}", **fields).status == 421
        assert cell.ask("GET", f"/cells/jobs/{new_id()}", **fields).status == 421
        assert name.directory.ask("POST", "/cells/places", placing, **fields).status == 421
    # A cell may say where its own stores go, and nobody else's.
    with name.cells["b"].app.app_context():
        target = "/cells/places"
        body = b'{"store_id": "%b", "to": "b", "checks": false}' % store.encode()
        fields = signatures.signed_fields("b", "POST", target, body)
    stolen = {"store_id": store, "to": "b", "checks": False}
    assert name.directory.ask("POST", target, stolen, **fields).status == 409
    assert name.directory.ask("POST", target, stolen, **(fields | {"X-Dues-Signed-By": "a"})).status == 421
    assert name.place(store) == "a"


def test_settings_of_cells_go_together(name: Name):
    settings = name.directory.servers.settings
    at = "a=http://127.0.0.1:1"
    for wrong in ({"cells": at}, {"cell": at}, {"cells": at, "cell": at, "cells_key": KEY}):
        with pytest.raises(ConfigError):
            check_cells(settings(**wrong))
    with pytest.raises(ConfigError, match="twice"):
        check_cells(settings(cells=f"{at} {at}", cells_key=KEY))
    # By this name the gateway would send what is for the cell to the directory.
    for wrong in ({"cells": "directory=http://127.0.0.1:1"}, {"cell": "directory=http://127.0.0.1:1"}):
        with pytest.raises(ConfigError, match="named directory"):
            check_cells(settings(**wrong, cells_key=KEY))


def test_a_cell_has_no_accounts_of_its_own(name: Name):
    cell = name.cells["a"]
    account = {"email": "eve@example.com", "name": "Eve", "password": "a long enough passphrase"}
    for path, body in (
        ("/v1/users", account),
        ("/v1/tokens", {"email": "eve@example.com", "password": "a long enough passphrase"}),
        ("/v1/password-resets", {"email": "eve@example.com"}),
    ):
        answer = cell.ask("POST", path, body)
        assert (answer.status, answer.body["address"]) == (421, f"http://127.0.0.1:{name.port}")
    assert cell.make.value("select count(*) from users") == 0


def test_who_asks_for_a_store_without_a_token_is_told_so(name: Name):
    answer = name.ask("POST", "/v1/stores", {"name": "Club", "currency": "EUR"})
    assert (answer.status, answer.headers["www-authenticate"]) == (401, 'Bearer realm="dues"')


def test_guesses_at_tokens_are_told_nothing_of_stores(name: Name, ada: Client):
    for token in ("dues_" + "A" * 43, "", "x" * 500):
        fields = {"Authorization": f"Bearer {token}"}
        for path in (ada.store.path, f"{ada.store.path}/payments", f"/v1/stores/{new_id()}", f"/v1/jobs/{new_id()}"):
            assert name.ask("GET", path, **fields).status == 401
