"""What any route that takes a body makes of one, tried on signing up."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec
import pytest
import zstandard

from api.app import MODULES
from api.routing import Route
from tests.factory import Factory

ADA = {"email": "ada@example.com", "name": "Ada Lovelace", "password": "first programme"}
PLAIN = json.dumps(ADA).encode()
MIB = 1024 * 1024


def post(client, body: bytes, content_type: str = "application/json", **headers: str) -> Any:
    return client.post("/v1/users", data=body, content_type=content_type, headers=headers)


def compressed(body: bytes, encoding: str) -> bytes:
    match encoding:
        case "gzip":
            return gzip.compress(body)
        case "deflate":
            return zlib.compress(body)
        case _:
            return zstandard.compress(body)


ENCODINGS = ["gzip", "deflate", "zstd"]


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_taken(client, content_type: str):
    assert post(client, PLAIN, content_type).status_code == 201


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/json5"])
def test_another_content_type_is_415(client, content_type: str):
    answer = post(client, PLAIN, content_type)
    assert (answer.status_code, answer.mimetype) == (415, "application/problem+json")
    assert answer.headers["Accept"] == "application/json"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"a":}',
        b"{'a':1}",
        b'{"a":1}x',
        b'{"a":1,}',
        b"\xff\xfe",
        b'{"name":"\xff"}',
        b'\xef\xbb\xbf{"a":1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"nul",
        b"undefined",
    ],
)
def test_what_is_not_json_is_400(client, body: bytes):
    answer = post(client, body)
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_json")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"[[-1e999]]"])
@pytest.mark.parametrize("field", [b"name", b"unknown"])
def test_what_is_no_finite_number_is_400(client, number: bytes, field: bytes):
    answer = post(client, b'{"%b": %b}' % (field, number))
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_json")


@pytest.mark.parametrize(
    "text",
    [
        rb'{"name": "a\u0000b"}',
        b'{"name": "a\0b"}',
        rb'{"a\u0000b": 1}',
        rb'{"name": "\ud800"}',
        rb'{"name": "\udc00\ud800"}',
        rb'{"x": [{"\uDFFF": 1}]}',
    ],
)
def test_what_text_cannot_hold_is_400(client, text: bytes):
    answer = post(client, text)
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_json")


def test_a_whole_surrogate_pair_and_an_escaped_backslash_are_text(client):
    name = rb'"name": "\ud83d\ude00 \\u0000 \\ud800"'
    answer = post(client, PLAIN.replace(b'"name": "Ada Lovelace"', name))
    assert answer.status_code == 201
    assert answer.json["name"] == "\N{GRINNING FACE} \\u0000 \\ud800"


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"7", b"null", b"true"])
def test_what_is_no_object_is_422(client, body: bytes):
    answer = post(client, body)
    assert answer.status_code == 422
    assert answer.json["errors"] == [{"pointer": "#", "code": "type", "detail": "must be an object"}]


def test_unknown_and_missing_fields_are_all_named(client):
    answer = post(client, b'{"a/b": 1, "c~d": 2, "": 3, "name": "Ada"}')
    assert answer.status_code == 422
    assert {fault["pointer"]: fault["code"] for fault in answer.json["errors"]} == {
        "#/": "unknown",
        "#/a~1b": "unknown",
        "#/c~0d": "unknown",
        "#/email": "required",
        "#/password": "required",
    }
    problem = answer.json
    assert problem["type"] == "/problems/validation"
    assert problem["instance"] == "/v1/users"
    assert problem["request_id"] == answer.headers["X-Request-Id"]
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("encoding", [*ENCODINGS, "GZIP", "identity"])
def test_a_compressed_body_is_taken(client, encoding: str):
    body = PLAIN if encoding == "identity" else compressed(PLAIN, encoding.lower())
    assert post(client, body, **{"Content-Encoding": encoding}).status_code == 201


@pytest.mark.parametrize("encoding", ["br", "compress", "gzip, gzip", "x"])
def test_another_encoding_is_415(client, encoding: str):
    answer = post(client, PLAIN, **{"Content-Encoding": encoding})
    assert answer.status_code == 415
    assert answer.headers["Accept-Encoding"] == "gzip, deflate, zstd"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("damage", [lambda body: PLAIN, lambda body: body[:-6], lambda body: b""])
def test_a_damaged_encoding_is_400(client, encoding: str, damage: Any):
    answer = post(client, damage(compressed(PLAIN, encoding)), **{"Content-Encoding": encoding})
    assert answer.status_code == 400


def test_anything_behind_compressed_data_is_400(client):
    answer = post(client, gzip.compress(PLAIN) + gzip.compress(b" "), **{"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_encoding")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_413(client, encoding: str):
    bomb = compressed(PLAIN + b" " * 200 * MIB, encoding)
    assert len(bomb) < MIB
    answer = post(client, bomb, **{"Content-Encoding": encoding})
    assert (answer.status_code, answer.json["code"]) == (413, "payload_too_large")


@pytest.mark.parametrize("encoding", ["identity", *ENCODINGS])
def test_a_body_has_at_most_one_mebibyte(client, encoding: str):
    headers = {} if encoding == "identity" else {"Content-Encoding": encoding}

    def padded(size: int) -> bytes:
        body = PLAIN + b" " * (size - len(PLAIN))
        return body if encoding == "identity" else compressed(body, encoding)

    assert post(client, padded(MIB), **headers).status_code == 201
    assert post(client, padded(MIB + 1), **headers).status_code == 413


class Endless(io.RawIOBase):
    """A body that never ends, and knows how much of it was read."""

    def __init__(self) -> None:
        self.taken = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.taken += len(buffer)
        return len(buffer)


@pytest.mark.parametrize("length", [None, str(10**12)])
def test_a_body_that_does_not_end_is_not_read_to_its_end(client, length: str | None):
    endless = Endless()
    declared = (
        {"CONTENT_LENGTH": length} if length else {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    )
    environ: dict[str, Any] = {"wsgi.input": endless, "CONTENT_TYPE": "application/json", **declared}
    answer = client.post("/v1/users", environ_overrides=environ)
    assert (answer.status_code, answer.mimetype) == (413, "application/problem+json")
    assert endless.taken <= 2 * MIB


def test_refusals_come_in_the_contracts_order(client, make: Factory):
    """Each request has all that is wrong with those before it but one."""
    owner, stranger = make.user(), make.user()
    store = make.store(owner)
    url = f"/v1/stores/{store.id}/packages"
    broken: dict[str, Any] = {"data": b"{", "content_type": "text/plain"}
    missing = url.replace(str(store.id), "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20")

    def status(path: str, auth: dict[str, str] | None, **body: Any) -> Any:
        return client.post(path, headers=auth, **body).status_code

    full = make.auth(owner)
    bad_key = {**full, "Idempotency-Key": "a b"}
    assert status(f"{missing}?x=1", None, **broken) == 401
    assert status(f"{missing}?x=1", make.auth(stranger, "account:read"), **broken) == 403
    assert status(f"{missing}?x=1", make.auth(stranger), **broken) == 404
    assert status(f"{url}?x=1", make.auth(stranger), **broken) == 403
    assert status(f"{url}?x=1", bad_key, **broken) == 400
    assert status(url, bad_key, **broken) == 400
    assert status(url, full, **broken) == 415
    assert status(url, full, data=b"{", content_type="application/json") == 400
    assert status(url, full, json={}) == 422
    assert status(url, full, json={"name": "Gold", "amount": 1, "interval": "once"}) == 201


def test_an_answer_does_not_grow_with_the_faults_of_its_question(client):
    names = {f"field {i}": i for i in range(20)}
    told = post(client, json.dumps(ADA | names).encode()).json["errors"]
    assert [fault["code"] for fault in told] == ["unknown"] * 20
    more = post(client, json.dumps(names).encode()).json["errors"]
    assert len(more) == 21
    assert more[20] == {"pointer": "#", "code": "more", "detail": "and more"}
    many = post(client, json.dumps(ADA | {f"field {i}": i for i in range(40_000)}).encode()).json["errors"]
    assert many == [{"pointer": "#", "code": "length", "detail": "has 40000 members that are no fields"}]
    long = post(client, json.dumps(ADA | {"x" * 500_000: 1}).encode())
    assert len(long.data) < 1000


def test_a_list_of_any_length_is_told_of_before_its_items(client, make: Factory):
    owner = make.user()
    url, auth = f"/v1/stores/{make.store(owner).id}/webhook-endpoints", make.auth(owner)
    short = client.post(url, headers=auth, json={"url": "https://1.1.1.1/", "events": ["x", "*", 1, "y" * 500_000]})
    assert {fault["pointer"]: fault["code"] for fault in short.json["errors"]} == {
        "#/events/0": "choice",
        "#/events/2": "type",
        "#/events/3": "choice",
    }
    assert len(short.data) < 2000
    long = client.post(url, headers=auth, json={"url": "https://1.1.1.1/", "events": ["x"] * 250_000})
    assert [(fault["pointer"], fault["code"]) for fault in long.json["errors"]] == [("#/events", "length")]


@pytest.mark.parametrize("route", [route for module in MODULES for route in module.all if route.bodies], ids=str)
def test_every_list_in_a_body_has_a_most_length(route: Route):
    def lists(kind: Any) -> Iterator[Any]:
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            for field in msgspec.structs.fields(kind):
                yield from lists(field.type)
        elif get_origin(kind) is list:
            yield kind
        elif get_origin(getattr(kind, "__origin__", None)) is list:
            assert any(meta.max_length for meta in kind.__metadata__), kind
        else:
            for part in get_args(kind):
                yield from lists(part)

    assert [kind for struct in route.bodies for kind in lists(struct)] == []
