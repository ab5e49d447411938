"""Writes that the front door has made without Flask: the answers, and the refusals, are Flask's."""

import asyncio
import gzip
import logging
import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import ujson
from flask import Flask

from api.app import MODULES
from api.server.application import FrontDoor
from api.server.asgi import Message
from api.server.thread_pool import Finished
from dues.ids import new_id
from dues.payments import service
from tests.api.test_access import BODIES, CALLERS, ROWS, Row, body_of, headers_of
from tests.api.world import World
from tests.factory import Factory
from tests.servers import wait_until

# Another for each answer.
OWN = {"x-request-id", "x-request-duration", "date", "server", "content-length"}
# What is made anew each time: ids, moments, digests, secrets, and what the factory counts.
_NEW = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{24,32}|\d{4}-\d\d-\d\dT[\d:.]+(?:\+00:00|Z)"
    r"|dues_[\w-]+|whsec_[\w+/=-]+|(?<=Package )\d+|(?<=seq=)\d+|(?<=\"seq\":)\d+"
)
BY_FLASK = {(route.method, route.path) for module in MODULES for route in module.all if route.bearer_scope}
WRITES = [row for row in ROWS if row.method != "GET"]

Answer = tuple[int, dict[str, str], bytes]
Lasting = tuple[int, dict[str, str], str]


class Door:
    """A front door on a loop of its own, and how often it has asked Flask."""

    def __init__(self, app: Flask) -> None:
        self._runner = asyncio.Runner()
        self._door = FrontDoor(app)
        self.asked_flask = 0
        call = self._door._threads.call

        async def count(*args: Any) -> Finished:
            self.asked_flask += 1
            return await call(*args)

        self._door._threads.call = count  # type: ignore[assignment, method-assign]

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        pairs = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope = {
            "type": "http",
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [*pairs, (b"content-length", str(len(body)).encode())],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        async def send(message: Message) -> None:
            sent.append(message)

        self._runner.run(self._door(scope, receive, send))
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        content = b"".join(message.get("body", b"") for message in sent[1:])
        assert int(found.get("content-length", 0)) == len(content)
        return sent[0]["status"], found, content

    def meet(self, path: str, headers: dict[str, str]) -> None:
        """Have it know what a caller may do where `path` is."""
        store = re.match(r"/v1/stores/[^/]{36}", path)

        def is_known() -> bool:
            before = self.asked_flask
            self.ask("PATCH", f"{store[0]}/packages/{new_id()}" if store else f"/v1/me/addresses/{new_id()}", headers)
            return self.asked_flask == before

        wait_until(is_known, 10, "the caller to be known")

    def close(self) -> None:
        self._door._checks.close()
        self._runner.close()


@pytest.fixture
def door(app: Flask) -> Iterator[Door]:
    door = Door(app)
    yield door
    door.close()


def lasting(answer: Answer, own: str = "") -> Lasting:
    """What is the same each time; `own` is a word that is not."""
    status, headers, body = answer
    kept = {name: _NEW.sub("*", value) for name, value in headers.items() if name not in OWN}
    return status, kept, _NEW.sub("*", body.decode().replace(own, "*") if own else body.decode())


def by_flask(app: Flask, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    answer = app.test_client().open(path, method=method, headers=headers, data=body)
    return answer.status_code, {name.lower(): value for name, value in answer.headers}, answer.data


@pytest.mark.parametrize("row", WRITES, ids=str)
def test_each_write_is_answered_as_by_flask(app: Flask, make: Factory, door: Door, row: Row):
    world = World(make, app)

    def ask(by: Callable[..., Answer], caller: str, auth: dict[str, str]) -> Lasting:
        own = new_id().hex[-8:]
        path = row.path.format_map(world.target(row.method, row.path))
        if by == door.ask and auth:
            door.meet(path, auth)
        elif by == door.ask and "store_id" in row.path:
            # A visitor is known where he has looked at a store, too.
            door.ask("GET", f"/v1/stores/{world.store.id}", auth)
        headers = auth | {"Content-Type": "application/json", "Idempotency-Key": own}
        document = body_of(row, own, world)
        before = door.asked_flask
        answer = by(row.method, path, headers, ujson.dumps(document).encode() if document else b"")
        if by == door.ask and auth:
            assert (door.asked_flask == before) == (row.route not in BY_FLASK), f"{row} as {caller}"
        return lasting(answer, own)

    for caller in CALLERS:
        auth = headers_of(caller, row, world, make)
        assert ask(door.ask, caller, auth) == ask(partial(by_flask, app), caller, auth), f"{row} as {caller}"


PAID = ujson.dumps(BODIES["POST", "/v1/stores/{store_id}/payments"]).encode()


@pytest.mark.parametrize(
    ("change", "body", "code"),
    [
        ({"Idempotency-Key": ""}, PAID, "invalid_idempotency_key"),
        ({"Content-Type": "text/plain"}, PAID, "unsupported_media_type"),
        ({}, b"{", "malformed_json"),
        ({}, b'{"amount":"\\ud800"}', "malformed_json"),
        ({}, b'{"amount":-1,"nothing":2}', "validation"),
        ({"Content-Encoding": "gzip"}, b"no gzip", "malformed_encoding"),
        ({"Content-Encoding": "gzip"}, gzip.compress(bytes(10_000_000), mtime=0), "payload_too_large"),
        ({"Content-Encoding": "snappy"}, b"", "unsupported_media_type"),
        (
            {"Content-Encoding": "gzip", "Content-Type": "Application/JSON; charset=utf-8"},
            gzip.compress(PAID, mtime=0),
            None,
        ),
        ({"Accept-Encoding": "br", "Content-Type": "application/json"}, PAID, None),
    ],
)
def test_what_is_wrong_with_a_write_is_told_as_by_flask(
    app: Flask, make: Factory, door: Door, change: dict[str, str], body: bytes, code: str | None
):
    auth = make.auth(make.user())
    path = f"/v1/stores/{make.store().id}/payments"
    door.meet(path, auth)
    before = door.asked_flask

    def headers() -> dict[str, str]:
        return auth | {"Content-Type": "application/json", "Idempotency-Key": new_id().hex} | change

    answer = door.ask("POST", path, headers(), body)
    assert door.asked_flask == before
    assert lasting(answer) == lasting(by_flask(app, "POST", path, headers(), body))
    assert ujson.loads(answer[2]).get("code") == code
    if code:
        assert ujson.loads(answer[2])["request_id"] == answer[1]["x-request-id"]


@pytest.fixture
def shop(make: Factory, door: Door) -> tuple[str, dict[str, str]]:
    """Where payments are asked for, and a caller who is known there."""
    auth = make.auth(make.user())
    path = f"/v1/stores/{make.store().id}/payments"
    door.meet(path, auth)
    return path, auth | {"Content-Type": "application/json", "Idempotency-Key": "one"}


def test_the_same_key_again_is_the_same_answer_by_whichever_road(
    app: Flask, make: Factory, door: Door, shop: tuple[str, dict[str, str]]
):
    path, headers = shop
    first = door.ask("POST", path, headers, PAID)
    again, by_the_other = door.ask("POST", path, headers, PAID), by_flask(app, "POST", path, headers, PAID)
    assert first[0] == again[0] == by_the_other[0] == 202
    assert first[2] == again[2] == by_the_other[2]
    assert again[1]["idempotency-replayed"] == "true"
    assert lasting(again) == lasting(by_the_other)
    assert make.value("select count(*) from payments") == 1


def test_a_long_answer_is_compressed(make: Factory, door: Door):
    owner = make.user()
    auth = make.auth(owner) | {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
    path = f"/v1/stores/{make.store(owner).id}/packages"
    door.meet(path, auth)
    document = {"name": "Gold", "amount": 1, "interval": "once", "description": "gold " * 500}
    status, headers, body = door.ask("POST", path, auth, ujson.dumps(document).encode())
    assert (status, headers["content-encoding"]) == (201, "gzip")
    assert int(headers["content-length"]) == len(body)
    assert headers["etag"].endswith(':gzip"')
    assert ujson.loads(gzip.decompress(body))["description"] == document["description"]


def test_a_revoked_token_writes_nothing(app: Flask, make: Factory, door: Door, shop: tuple[str, dict[str, str]]):
    path, headers = shop
    assert door.ask("POST", path, headers, PAID)[0] == 202
    token = ujson.loads(by_flask(app, "GET", "/v1/tokens", headers)[2])["data"][0]["id"]
    assert by_flask(app, "DELETE", f"/v1/tokens/{token}", headers)[0] == 204
    assert door.ask("POST", path, headers | {"Idempotency-Key": "two"}, PAID)[0] == 401
    assert make.value("select count(*) from payments") == 1


def test_its_trace_is_its_jobs_and_its_id_is_in_the_logs(
    make: Factory,
    door: Door,
    shop: tuple[str, dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    path, headers = shop
    sent = headers | {"traceparent": f"00-{'a1' * 16}-{'b2' * 8}-01", "X-Request-Id": "mine"}
    assert door.ask("POST", path, sent, PAID)[0] == 202
    assert make.value("select trace from jobs") == sent["traceparent"]

    def fail(*_: object) -> None:
        raise KeyError("a secret")

    monkeypatch.setattr(service, "open_payment", fail)
    status, found, body = door.ask("POST", path, sent | {"Idempotency-Key": "two"}, PAID)
    assert (status, found["x-request-id"], ujson.loads(body)["code"]) == (500, "mine", "internal_error")
    assert b"secret" not in body
    assert [record.message for record in caplog.records if record.levelno >= logging.ERROR] == ["unhandled KeyError"]
    assert make.value("select count(*) from payments") == make.value("select count(*) from jobs") == 1
