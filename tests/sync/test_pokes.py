"""A client that has missed nothing waits for something new, on either host."""

import http.client
import json
import re
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace as Made
from typing import Any

import pytest

from tests.factory import Factory
from tests.servers import Servers, wait_until
from tests.webserver import WebServer


@pytest.fixture(scope="module", params=["server:app", "wsgi:app"])
def web(servers: Servers, request: pytest.FixtureRequest) -> Iterator[WebServer]:
    with WebServer(servers, threads=8, target=request.param) as web:
        yield web


def pull(web: WebServer, headers: dict[str, str], cursor: str, wait: int) -> tuple[dict[str, str], Any]:
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=40)) as connection:
        connection.request("GET", f"/v1/sync?cursor={cursor}", headers=headers | {"Prefer": f"wait={wait}"})
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        return {name.lower(): value for name, value in answer.getheaders()}, json.loads(answer.read())


def held_by(web: WebServer) -> int:
    with urllib.request.urlopen(f"{web.url}/metrics", timeout=10) as answer:
        found = re.search(rb"^dues_clients_of_changes(?:{[^}]*})? (\d+)", answer.read(), re.M)
    return int(found[1]) if found else 0


class Held(threading.Thread):
    """A client that is held."""

    def __init__(self, *args: Any) -> None:
        super().__init__()
        self._args = args
        self.start()

    def run(self) -> None:
        self.headers, self.page = pull(*self._args)

    def answered(self) -> Any:
        self.join(30)
        assert not self.is_alive()
        return self.page


def test_it_is_answered_when_there_is_something_new(
    web: WebServer, make: Factory, member: Made, owner: Made, store: Made
) -> None:
    make.subscription(store, member)
    auth = make.auth(member)
    cursor = pull(web, auth, "", 0)[1]["cursor"]
    own, of_store = Held(web, auth, cursor, 25), Held(web, auth, cursor, 25)
    wait_until(lambda: held_by(web) == 2, what="two clients that are held")
    # What is not the member's wakes nobody.
    make.address(owner), make.payment(store)
    post = make.post(owner, store=store)
    for held in (own, of_store):
        assert [change["id"] for change in held.answered()["changes"]] == [str(post.id)]
        assert held.headers["preference-applied"] == "wait=25"


def test_with_nothing_new_it_is_told_so(web: WebServer, make: Factory, member: Made) -> None:
    auth = make.auth(member)
    cursor = pull(web, auth, "", 0)[1]["cursor"]
    headers, page = pull(web, auth, cursor, 1)
    assert (page["changes"], headers["preference-applied"]) == ([], "wait=1")
    # With something to tell there is nothing to wait for.
    make.address(member)
    headers, page = pull(web, auth, cursor, 25)
    assert len(page["changes"]) == 1
    assert "preference-applied" not in headers


def test_whose_token_is_revoked_meanwhile_is_told_nothing(
    web: WebServer, servers: Servers, make: Factory, member: Made
) -> None:
    auth = make.auth(member)
    cursor = pull(web, auth, "", 0)[1]["cursor"]
    held = Held(web, auth, cursor, 25)
    wait_until(lambda: held_by(web) == 1, what="a client that is held")
    make.rows("update api_tokens set revoked_at = now() returning id")
    make.address(member)
    assert held.answered()["changes"] == []


def test_a_client_that_leaves_is_forgotten(web: WebServer, make: Factory, member: Made) -> None:
    auth = make.auth(member)
    cursor = pull(web, auth, "", 0)[1]["cursor"]
    for _ in range(3):
        connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=40)
        connection.request("GET", f"/v1/sync?cursor={cursor}", headers=auth | {"Prefer": "wait=25"})
        connection.close()
    if web.target == "server:app":
        # A server of threads is not told of it.
        wait_until(lambda: held_by(web) == 0, what="nobody who is held")
    assert pull(web, auth, cursor, 0)[1]["changes"] == []
