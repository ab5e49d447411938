"""Every write over HTTP, and every job that follows, against every read: what the cache answers is what is there.

The reads are made by each kind of caller, before and after each write, and then once more with all forgotten; on two
servers by turns: Flask, and a web server that answers from its own memory and on its event loop. The plain run looks
after every few writes, and `--wide` after each, so that nothing that one left stale is made fresh by the next.
"""

import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import cycle, islice
from typing import Any, NamedTuple

import pytest
import ujson
from flask import Flask
from sqlalchemy import text
from werkzeug.test import create_environ, run_wsgi_app

from dues.ids import new_id
from dues.postgres import transaction
from dues.reads.freshness.writer import Writer
from dues.reads.tags import touch
from tests.api.samples.declared import FINISHED, READS, sent_with
from tests.api.test_access import ROWS, Row, body_of
from tests.api.world import World
from tests.contention import Contention
from tests.factory import Factory
from tests.payments.conftest import Work, work
from tests.servers import Servers
from tests.tag_guard import missing_tags
from tests.webserver import WebServer

__all__ = ["work"]

CALLERS = ("nobody", "customer", "owner")


def in_order(rows: list[Row]) -> list[Row]:
    """What is deleted is deleted after all that is done below it."""

    def place(own: int) -> tuple[int, int]:
        below = [number for number, other in enumerate(rows) if other.path.startswith(rows[own].path)]
        return (below[-1], -len(rows[own].path)) if rows[own].method == "DELETE" else (own, 0)

    return [rows[own] for own in sorted(range(len(rows)), key=place)]


# Of hooks each is signed: tests/payments/test_stripe.py.
WRITES = in_order(
    [row for row in ROWS if row.method != "GET" and not row.path.startswith(("/v1/jobs", "/v1/gateways/"))]
)

Answers = dict[tuple[str, str], tuple[int, str | None, bytes]]


class Answer(NamedTuple):
    status: int
    etag: str | None
    body: bytes
    is_hit: bool


# Paths, and the headers that all of them are asked for with. Returns: an answer for each.
Read = Callable[[Sequence[str], dict[str, str]], list[Answer]]


class Onlookers:
    """Callers who read everything, over and over, on each of the servers."""

    def __init__(self, servers: dict[str, Read], make: Factory, world: World) -> None:
        self._servers, self._world = servers, world
        self.auth = {name: make.auth(getattr(world, name)) if name != "nobody" else {} for name in CALLERS}
        self.ids: dict[str, Any] = {}
        for path in READS:
            self.ids |= world.target("GET", path)
        self.ids |= {"user_id": world.customer.id}
        # Shown to whoever becomes one of the staff.
        for status in ("draft", "published"):
            make.post(world.owner, store=world.store, privacy="members", status=status)
        self._paths = {caller: {path: path.format_map(self.ids) for path in READS} for caller in CALLERS}
        self.hits = Counter[str]()

    def look(self, server: str) -> Answers:
        answers: Answers = {}
        for caller, paths in self._paths.items():
            found = self._servers[server](list(paths.values()), self.auth[caller])
            self.hits[server] += sum(answer.is_hit for answer in found)
            for path, answer in zip(paths, found, strict=True):
                # A problem document names the request.
                is_refused = answer.status >= 400
                kept = re.sub(rb'"request_id":"[^"]+"', b"", answer.body) if is_refused else answer.body
                answers[caller, path] = answer.status, answer.etag, kept
        # Without a token nothing is looked at where one is needed: to ask once is enough.
        self._paths["nobody"] = {
            p: asked for p, asked in self._paths["nobody"].items() if answers["nobody", p][0] != 401
        }
        return answers

    def look_everywhere(self) -> dict[str, Answers]:
        return {server: self.look(server) for server in self._servers}


def write(app: Flask, row: Row, onlookers: Onlookers, world: World, caller: str) -> int:
    ids = dict(onlookers.ids)
    if row.path.endswith(("/confirmations", "/{delivery_id}/replays", "/mailings", "/mailing-test")):
        ids |= world.target(row.method, row.path)
    if "/me/following" in row.path or "/me/blocks" in row.path:
        # Each the other.
        ids["user_id"] = world.owner.id if caller == "customer" else world.customer.id
    headers = onlookers.auth[caller] | {"Idempotency-Key": new_id().hex}
    body = body_of(row, caller, world)
    return (
        app.test_client()
        .open(row.path.format_map(ids), method=row.method, headers=headers, **sent_with(body))
        .status_code
    )


def compare(onlookers: Onlookers, servers: Servers, *asked: str) -> tuple[Answers, list[str]]:
    """What the database answers, and the reads that the cache of a server that is asked answers otherwise."""
    cached = {server: onlookers.look(server) for server in asked}
    servers.forget()
    fresh = onlookers.look("asgi")
    stale = [
        f"{server}: {caller} GET {path}"
        for server, answers in cached.items()
        for (caller, path), answer in answers.items()
        if answer != fresh[caller, path]
    ]
    return fresh, stale


def read_on(app: Flask) -> Read:
    """The same is read again and again: Flask's client would take longer to put each request together than the
    application to answer it."""

    @cache
    def environ(path: str, token: str | None) -> dict[str, Any]:
        return create_environ(path, headers={"Authorization": token} if token else None)

    def read_one(path: str, token: str | None) -> Answer:
        body, status, found = run_wsgi_app(app, {**environ(path, token)}, buffered=True)
        is_hit = "desc=hit" in found.get("Server-Timing", "")
        return Answer(int(status.split()[0]), found.get("ETag"), b"".join(body), is_hit)

    return lambda paths, headers: [read_one(path, headers.get("Authorization")) for path in paths]


_LENGTH, _ETAG = re.compile(rb"\r\ncontent-length: (\d+)", re.I), re.compile(rb"\r\netag: ([^\r]+)", re.I)


def read_from(connection: socket.socket) -> Read:
    """All requests at once, over one connection: http.client would take longer than the server."""

    def read(paths: Sequence[str], headers: dict[str, str]) -> list[Answer]:
        fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall("".join(f"GET {path} HTTP/1.1\r\nHost: h\r\n{fields}\r\n" for path in paths).encode())
        answers: list[Answer] = []
        data = bytearray()
        while len(answers) < len(paths):
            part = connection.recv(1_000_000)
            assert part, "the server has closed the connection"
            data += part
            while (end := data.find(b"\r\n\r\n") + 4) > 3:
                head = bytes(data[:end])
                length = _LENGTH.search(head)
                assert length, head
                if len(data) < end + int(length[1]):
                    break
                etag, body = _ETAG.search(head), bytes(data[end : end + int(length[1])])
                answers.append(Answer(int(head[9:12]), etag and etag[1].decode(), body, b"desc=hit" in head))
                del data[: end + len(body)]
        return answers

    return read


@pytest.fixture
def world(app: Flask, make: Factory) -> World:
    return World(make, app)


@pytest.fixture(scope="module")
def web(servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, threads=2, RATE_LIMIT="off") as server:
        yield server


@pytest.fixture
def onlookers(app: Flask, make: Factory, world: World, web: WebServer) -> Iterator[Onlookers]:
    with socket.create_connection(("127.0.0.1", web.port), timeout=60) as connection:
        yield Onlookers({"flask": read_on(app), "asgi": read_from(connection)}, make, world)


def done_in_order(app: Flask, work: Work, world: World, onlookers: Onlookers) -> Iterator[str]:
    """Each write, and each one's jobs, as they are done."""
    for row in WRITES:
        done = [write(app, row, onlookers, world, c) for c in ("customer", "owner") if row.expected[c][0] == "2"]
        assert min(done, default=0) < 300, f"{row}: {done}"
        yield str(row)
        if "202" in row.expected.values():
            work.hurry()
            yield f"the jobs of {row}"


@pytest.mark.timeout(600)
@pytest.mark.typeset
@pytest.mark.parametrize("at_once", [4, pytest.param(1, marks=pytest.mark.wide)])
def test_nothing_is_stale_after_any_write_and_any_job(
    app: Flask, servers: Servers, work: Work, world: World, onlookers: Onlookers, at_once: int
) -> None:
    before = onlookers.look_everywhere()["flask"]
    changed: set[str] = set()
    turns = cycle(("flask", "asgi"))
    doing = done_in_order(app, work, world, onlookers)
    looks = 0
    while done := list(islice(doing, at_once)):
        after, stale = compare(onlookers, servers, next(turns))
        looks += 1
        assert not stale, f"after {', '.join(done)}"
        changed |= {path for (caller, path), answer in after.items() if before[caller, path] != answer}
        before = after

    # A machine that stalls closes the cache's switch for some seconds, so no more than a quarter of each half is asked
    # for; and of what several writes leave, less than half of that.
    least = looks * len(READS) * len(CALLERS) / (8 if at_once == 1 else 20)
    assert onlookers.hits["flask"] > least
    assert onlookers.hits["asgi"] > least
    assert set(READS) - changed == FINISHED, "reads that no write changed prove nothing"


def test_without_touches_it_is(
    app: Flask, servers: Servers, world: World, onlookers: Onlookers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Writer, "touch", lambda *_: None)
    onlookers.look_everywhere()
    for row in WRITES:
        if row.route in {("PATCH", "/v1/me"), ("PATCH", "/v1/stores/{store_id}/packages/{package_id}")}:
            write(app, row, onlookers, world, "owner")
            stale = compare(onlookers, servers, "flask", "asgi")[1]
            assert {line.partition(":")[0] for line in stale} == {"flask", "asgi"}, str(row)


_PAYMENT = """
    insert into payments(store_id, id, user_id, amount, currency, payment_method, gateway)
    values (%(store_id)s, %(id)s, %(user_id)s, 1, 'EUR', 'sandbox_ok', 'sandbox')
"""


def test_a_new_name_reaches_a_store_where_its_first_payment_is_just_being_made(
    app: Flask, world: World, onlookers: Onlookers, contention: Contention, make: Factory
) -> None:
    """The store is not yet among those where the user buys, so the new name has to wait for it."""
    client, auth = app.test_client(), make.auth(world.owner)
    path = f"/v1/stores/{world.elsewhere.id}/payments?include=user&fields=user.name"

    def rename() -> int:
        headers = onlookers.auth["customer"]
        return app.test_client().patch("/v1/me", json={"name": "Renamed"}, headers=headers).status_code

    values = {"store_id": world.elsewhere.id, "id": new_id(), "user_id": world.customer.id}
    with contention.held(_PAYMENT, **values):
        renamed = contention.start(rename)
    # Between the two commits this would keep the payment with the old name.
    client.get(path, headers=auth)
    assert [future.result() for future in renamed] == [200]

    assert ujson.loads(client.get(path, headers=auth).data)["data"] == [{"user": {"name": "Renamed"}}]


def test_a_write_that_names_no_tag_fails(app: Flask, make: Factory) -> None:
    store = make.store()
    with app.app_context():

        def rename(*tags: str) -> None:
            with transaction() as session:
                session.execute(text("update stores set name = 'New' where id = :id"), {"id": store.id})
                touch(*tags)

        with pytest.raises(AssertionError, match=r"stores: store:\*"):
            rename("stores")
        with pytest.raises(AssertionError, match="stores: stores"):
            rename(f"store:{store.id}", f"store:{store.id}:packages")
        rename("stores", f"store:{store.id}")


def test_tags_are_missed_by_their_pattern() -> None:
    assert missing_tags({"payments"}, {"user:1", "store:2:payments"}) == []
    assert missing_tags({"payments"}, {"user:1:tokens", "store:2"}) == [
        "payments: store:*:payments",
        "payments: user:*",
    ]
    assert missing_tags({"jobs", "email_sends"}, set()) == []
