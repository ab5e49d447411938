"""A server inside that fails: what stands on it waits, the rest goes on, and nothing is a fault of ours."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from uuid import UUID

import pytest

from api.app import create_app
from api.cells import directing
from dues.cells import calls, places, signatures
from dues.cells.calls import Document, call_cell
from dues.errors import Unavailable
from dues.ids import new_id
from tests.api.server.loop_server import LoopServer
from tests.cells.conftest import Answer, Name, _dispose, ask
from tests.read_only import read_only_database
from tests.servers import wait_until


class Silent:
    """A server that takes connections, and says nothing."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._taken: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def taken(self) -> int:
        """How many connections have been made to it."""
        self._listener.setblocking(False)
        try:
            while True:
                self._taken.append(self._listener.accept()[0])
        except BlockingIOError:
            return len(self._taken)

    def close(self) -> None:
        for connection in (*self._taken, self._listener):
            connection.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    with closing(Silent(socket.create_server(("127.0.0.1", 0)))) as server:
        yield server


def cells_with(name: Name, silent: Silent) -> dict[str, str]:
    """The settings of a directory whose cell `a` hangs."""
    return {**name.directory.settings, "cells": f"a={silent.url} b=http://127.0.0.1:{name.cells['b'].port}"}


def test_a_database_that_takes_no_writes_is_said_by_503(name: Name):
    """Also where something has to be written before a request is let in, or sent on."""
    ada, bob = name.client_of("a"), name.sign_up()
    with read_only_database(name.cells["a"].servers.direct):
        answer = bob.ask("GET", f"{ada.store.path}/packages")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.body["detail"] == "the database takes no writes at the moment"
    with read_only_database(name.directory.servers.direct):
        answer = bob.ask("POST", "/v1/stores", {"name": "Club", "currency": "EUR"})
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert bob.ask("GET", f"{ada.store.path}/packages").status == 200


def test_a_cell_that_hangs_is_asked_once_in_a_while(name: Name, silent: Silent, monkeypatch: pytest.MonkeyPatch):
    """Or each request for a job would hold a thread until its time is over."""
    bob = name.client_of("b")
    job = UUID(bob.pay(bob.store).headers["location"].rpartition("/")[2])
    monkeypatch.setattr(calls, "_TIMEOUT_S", 0.2)
    app = create_app(name.directory.servers.settings(**cells_with(name, silent)))
    try:
        with app.app_context():
            for _ in range(5):
                with pytest.raises(Unavailable):
                    call_cell("a", "GET", f"/cells/jobs/{new_id()}")
            assert silent.taken() == 2
            assert directing._Jobs().store_of(job) == UUID(bob.store.id)
    finally:
        _dispose(app)


def test_while_a_cell_hangs_others_have_threads(name: Name, silent: Silent, monkeypatch: pytest.MonkeyPatch):
    ada = name.sign_up()
    monkeypatch.setattr(calls, "_TIMEOUT_S", 1.5)
    settings = cells_with(name, silent) | {"forwarded_allow_ips": "127.0.0.1"}
    app = create_app(name.directory.servers.settings(**settings, web_threads=4))
    asked: list[Answer] = []
    with LoopServer(app) as server:

        def ask_for_a_job(number: int) -> None:
            path = f"/v1/jobs/{new_id()}"
            fields = {"X-Forwarded-Method": "GET", "X-Forwarded-Uri": path, "X-Forwarded-For": f"192.0.2.{number}"}
            asked.append(ask(server.port, "GET", "/cells/question", **fields, **ada.auth))

        waiting = [threading.Thread(target=ask_for_a_job, args=(number,)) for number in range(4)]
        for thread in waiting:
            thread.start()
        wait_until(lambda: silent.taken() == 3, what="requests that wait for the cell")
        # Who is calling is found out on a thread.
        assert ask(server.port, "GET", "/v1/me", **ada.auth, **{"X-Forwarded-For": "198.51.100.1"}).status == 200
        assert asked == []
        for thread in waiting:
            thread.join(30)
    _dispose(app)
    assert {answer.status for answer in asked} == {503}


def test_a_cell_that_is_set_up_wrong_takes_no_other_with_it(name: Name, monkeypatch: pytest.MonkeyPatch):
    """Where the keys differ it refuses what it is asked."""
    bob = name.client_of("b")
    job = UUID(bob.pay(bob.store).headers["location"].rpartition("/")[2])
    right = signatures.signed_fields
    monkeypatch.setattr(
        "dues.cells.calls.signed_fields", lambda cell, *rest: right("b" if cell == "a" else cell, *rest)
    )
    with name.directory.app.app_context():
        assert directing._Jobs().store_of(job) == UUID(bob.store.id)
        with pytest.raises(Unavailable):
            directing._Jobs().store_of(new_id())


def test_what_was_never_made_is_forgotten_however_much_it_is(name: Name):
    """And however many are in a cell that does not answer."""
    make = name.directory.make
    make.rows(
        "insert into store_places(store_id, cell, asked_at) select gen_random_uuid(), cell, now() - interval '2 hours'"
        " from generate_series(1, 120), unnest(array['a', 'b']) cell"
    )
    asked: list[str] = []

    def call(cell: str, method: str, target: str, document: Document | None = None) -> Document:
        asked.append(cell)
        if cell == "a":
            raise Unavailable("it is away")
        return {"is_here": False}

    with name.directory.app.app_context():
        assert places.forget_unmade(call) == 120
    assert (asked.count("a"), asked.count("b")) == (1, 120)
    assert make.value("select count(*) from store_places where cell = 'a'") == 120
