"""Writes by either host of the declared routes: the answers, and the refusals, are the same."""

import gzip
import logging
import re
from collections.abc import Callable, Iterator
from functools import partial

import pytest
import ujson
from flask import Flask

from dues.ids import new_id
from dues.payments import service
from tests.api.samples.declared import BODIES, FileBody
from tests.api.server.loop_server import Answer, LoopServer
from tests.api.test_access import CALLERS, ROWS, Row, body_of, headers_of
from tests.api.world import World
from tests.factory import Factory

# Another for each answer.
OWN = {"x-request-id", "x-request-duration", "date", "server", "content-length"}
# What is made anew each time: ids, moments, digests, secrets, and what the factory counts.
_NEW = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{24,32}|\d{4}-\d\d-\d\dT[\d:.]+(?:\+00:00|Z)"
    r"|dues_[\w-]+|whsec_[\w+/=-]+|(?<=Package )\d+|(?<=seq=)\d+|(?<=\"seq\":)\d+"
    r"|(?<=\"cursor\":\")[\w-]+"
)
# Files come by another way than bodies, on either host: tests/imports/test_upload.py.
WRITES = [row for row in ROWS if row.method != "GET" and not isinstance(BODIES.get(" ".join(row.route)), FileBody)]

Lasting = tuple[int, dict[str, str], str]


@pytest.fixture
def door(app: Flask) -> Iterator[LoopServer]:
    with LoopServer(app) as server:
        yield server


def lasting(answer: Answer, own: str = "") -> Lasting:
    """What is the same each time; `own` is a word that is not."""
    status, headers, body = answer
    kept = {name: _NEW.sub("*", value) for name, value in headers.items() if name not in OWN}
    return status, kept, _NEW.sub("*", body.decode().replace(own, "*") if own else body.decode())


def by_flask(app: Flask, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
    answer = app.test_client().open(path, method=method, headers=headers, data=body)
    return answer.status_code, {name.lower(): value for name, value in answer.headers}, answer.data


@pytest.mark.parametrize(
    "row", [pytest.param(row, marks=[pytest.mark.wide] if n % 3 else []) for n, row in enumerate(WRITES)], ids=str
)
def test_each_write_is_answered_as_by_flask(app: Flask, make: Factory, door: LoopServer, row: Row):
    world = World(make, app)

    def ask(by: Callable[..., Answer], caller: str, auth: dict[str, str]) -> Lasting:
        own = new_id().hex[-8:]
        # What a user has already makes a difference to what is added: the first is the default one, and nobody
        # subscribes to a package twice.
        make.rows("delete from payment_methods returning id")
        make.rows("update subscriptions set status = 'canceled', ended_at = now() where status <> 'canceled'")
        path = row.path.format_map(world.target(row.method, row.path))
        headers = auth | {"Content-Type": "application/json", "Idempotency-Key": own}
        document = body_of(row, own, world)
        return lasting(by(row.method, path, headers, ujson.dumps(document).encode() if document else b""), own)

    known = False
    for caller in CALLERS:
        auth = headers_of(caller, row, world, make)
        # Every other caller is known to the server, which then need not find out what it may do.
        if known := not known:
            door.ask("GET", f"/v1/stores/{world.store.id}/packages" if "store_id" in row.path else "/v1/me", auth)
        assert ask(door.ask, caller, auth) == ask(partial(by_flask, app), caller, auth), f"{row} as {caller}"


PAID = ujson.dumps(BODIES["POST /v1/stores/{store_id}/payments"]).encode()


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
    app: Flask, make: Factory, door: LoopServer, change: dict[str, str], body: bytes, code: str | None
):
    auth = make.auth(make.user())
    path = f"/v1/stores/{make.store().id}/payments"

    def headers() -> dict[str, str]:
        return auth | {"Content-Type": "application/json", "Idempotency-Key": new_id().hex} | change

    answer = door.ask("POST", path, headers(), body)
    assert lasting(answer) == lasting(by_flask(app, "POST", path, headers(), body))
    assert ujson.loads(answer[2]).get("code") == code
    if code:
        assert ujson.loads(answer[2])["request_id"] == answer[1]["x-request-id"]


@pytest.fixture
def shop(make: Factory, door: LoopServer) -> tuple[str, dict[str, str]]:
    """Where payments are asked for, and a caller who is known there."""
    auth = make.auth(make.user())
    path = f"/v1/stores/{make.store().id}/payments"
    return path, auth | {"Content-Type": "application/json", "Idempotency-Key": "one"}


def test_the_same_key_again_is_the_same_answer_by_whichever_road(
    app: Flask, make: Factory, door: LoopServer, shop: tuple[str, dict[str, str]]
):
    path, headers = shop
    first = door.ask("POST", path, headers, PAID)
    again, by_the_other = door.ask("POST", path, headers, PAID), by_flask(app, "POST", path, headers, PAID)
    assert first[0] == again[0] == by_the_other[0] == 202
    assert first[2] == again[2] == by_the_other[2]
    assert again[1]["idempotency-replayed"] == "true"
    assert lasting(again) == lasting(by_the_other)
    assert make.value("select count(*) from payments") == 1


def test_a_long_answer_is_compressed(make: Factory, door: LoopServer):
    owner = make.user()
    auth = make.auth(owner) | {"Content-Type": "application/json", "Accept-Encoding": "gzip"}
    path = f"/v1/stores/{make.store(owner).id}/packages"
    document = {"name": "Gold", "amount": 1, "interval": "once", "description": "gold " * 500}
    status, headers, body = door.ask("POST", path, auth, ujson.dumps(document).encode())
    assert (status, headers["content-encoding"]) == (201, "gzip")
    assert int(headers["content-length"]) == len(body)
    assert headers["etag"].endswith(':gzip"')
    assert ujson.loads(gzip.decompress(body))["description"] == document["description"]


def test_a_revoked_token_writes_nothing(app: Flask, make: Factory, door: LoopServer, shop: tuple[str, dict[str, str]]):
    path, headers = shop
    assert door.ask("POST", path, headers, PAID)[0] == 202
    token = ujson.loads(by_flask(app, "GET", "/v1/tokens", headers)[2])["data"][0]["id"]
    assert by_flask(app, "DELETE", f"/v1/tokens/{token}", headers)[0] == 204
    assert door.ask("POST", path, headers | {"Idempotency-Key": "two"}, PAID)[0] == 401
    assert make.value("select count(*) from payments") == 1


def test_its_trace_is_its_jobs_and_its_id_is_in_the_logs(
    make: Factory,
    door: LoopServer,
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
