"""What any route that takes a body makes of one, tried on signing up."""

import codecs
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from api.app import MODULES
from api.body import DEEPEST, parse_json
from api.request import make_request
from api.routing import Route
from dues.errors import BadRequest
from tests.factory import Factory

ADA = {"email": "ada@example.com", "name": "Ada Lovelace", "password": "first programme"}
PLAIN = json.dumps(ADA).encode()
JSON = make_request("POST", "/", {"content-type": "application/json"}, "127.0.0.1")
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
            return zstd.compress(body, options={int(zstd.CompressionParameter.checksum_flag): 1})


ENCODINGS = ["gzip", "deflate", "zstd"]


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_taken(client, content_type: str):
    assert post(client, PLAIN, content_type).status_code == 201


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/json5"])
def test_another_content_type_is_415(client, content_type: str):
    answer = post(client, PLAIN, content_type)
    assert (answer.status_code, answer.mimetype) == (415, "application/problem+json")
    assert answer.headers["Accept"] == "application/json"


# By RFC 8259, and what may be of use to an attacker beyond that: members twice, of which readers take either.
NO_JSON = [
    *(b"", b" ", b"{", b"nul", b"tru", b"True", b"undefined", b"x", b"\0", b"{}{}", b'{"a":1}x', b"/**/1", b"1\x0c"),
    *(
        b'{"a":}',
        b"{'a':1}",
        b"{a:1}",
        b'{"a":1,}',
        b"[1,]",
        b'{"a":1 "b":2}',
        b'{"a" 1}',
        b"{1:1}",
        b"\x0b1",
        b"\xc2\xa01",
    ),
    # numbers
    *(b"01", b"-01", b"00", b"-", b"+1", b"1.", b".5", b"1.e5", b"1e", b"1e+", b"0x1", b"1_000", b"- 1", b"9" * 5000),
    *(b"NaN", b"Infinity", b"-Infinity", b"1e999", b"[[-1e999]]", b"1e5000"),
    # texts
    *(
        b'"a\tb"',
        b'"a\nb"',
        b'"a\rb"',
        b'"a\x01b"',
        b'"a\x1fb"',
        b'"a\0b"',
        rb'"\x41"',
        rb'"\u12"',
        rb'"\U00000041"',
        b'"a',
    ),
    *(rb'"\q"', rb'"\ud800"', rb'"\udc00\ud800"', rb'"\ud800x"', rb'{"\uDFFF":1}', rb'"\u0000"', rb'{"a\u0000":1}'),
    # bytes
    *(
        b"\xff\xfe",
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"\xf4\x90\x80\x80"',
        b'"\xc0\x80"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
    ),
    # depth
    *(b"[" * 100_000, b'{"a":' * 100_000, b"[" * 100_000 + b"]" * 100_000),
    # members twice, however they are written
    *(
        b'{"a":1,"a":1}',
        rb'{"a":1,"\u0061":2}',
        b'{"x":{"b":1,"c":{},"b":2}}',
        b'[{"x":1},{"x":1,"x":2}]',
        b'{"":1,"":2}',
    ),
    *(rb'{"a":"\u003a","a":":"}', rb'{"a":1,"a":2,"b":"\u003A"}', b'{"a":"12:30","a":"12"}', b'{"a":{"b":":"},"a":1}'),
]


@pytest.mark.parametrize("wrapped", [b"%b", b'{"name": %b}', b'{"unknown": [1, %b]}'])
def test_what_is_not_json_is_400(client, wrapped: bytes):
    for body in NO_JSON:
        answer = post(client, wrapped.replace(b"%b", body))
        assert (answer.status_code, answer.json["code"]) == (400, "malformed_json"), body[:20]
        assert len(answer.json["detail"]) < 200, body[:20]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (codecs.BOM_UTF8 + b'{"name": "Ada"}', "it begins with a byte order mark: send UTF-8 without one"),
        ('{"name": "Ada"}'.encode("utf-16"), "it begins with a byte order mark: send UTF-8 without one"),
        ('{"name": "Zoë"}'.encode("latin-1"), "it is not UTF-8 (byte 12)"),
        (rb'{"name": "\ud83d"}', "an escape in it is half of a character, or its end is missing"),
        (b'{"name": "Ada"', "Input data was truncated"),
    ],
)
def test_why_it_is_not_json_is_told_in_words(client, body: bytes, reason: str):
    assert post(client, body).json["detail"] == f"the body is not JSON: {reason}"


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")], ids=["arrays", "objects"])
def test_a_body_is_so_deep_and_no_deeper(client, opening: str, closing: str):
    """Also where a field takes any JSON, as an operation of a batch does."""
    for depth, status in ((DEEPEST, 422), (DEEPEST + 1, 400), (950, 400)):
        # Beside what is shallow, on either side.
        inner = f"{opening * (depth - 2)}1{closing * (depth - 2)}"
        answer = post(client, f'{{"x": [[], {inner}, []]}}'.encode())
        assert (depth, answer.status_code) == (depth, status)
    batch = '{"operations": [{"id": "a", "method": "POST", "path": "/v1/stores", "body": %s}]}'
    for depth, status in ((DEEPEST - 3, 207), (DEEPEST - 2, 400), (900, 400)):
        sent = batch % f"{opening * depth}1{closing * depth}"
        answer = client.post("/v1/batch", data=sent, headers={"Content-Type": "application/json"})
        assert (depth, answer.status_code) == (depth, status)
        assert status == 400 or answer.json["results"][0]["status"] in (401, 422)


def test_a_member_that_is_there_twice_is_named(client):
    answer = post(client, b'{"email": "ada@example.com", "amount": 1, "amount": 500}')
    assert answer.json["detail"] == "the body has the member 'amount' twice"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (rb'"\ud83d\ude00"', "\N{GRINNING FACE}"),
        (rb'"\\u0000 \\\\u0000 \\ud800"', r"\u0000 \\u0000 \ud800"),
        (rb'"\u003a: \u003A"', ":: :"),
        (b'"\xe2\x80\xa8 \xc2\x85 \x7f"', "\u2028 \x85 \x7f"),
        (rb'"\"\\\/\b\f\n\r\t"', '"\\/\b\f\n\r\t'),
        (b" [ -0 , 0e1 , 1E+2 , 1.50 , -1e-2 ] ", [0, 0.0, 100.0, 1.5, -0.01]),
        (b'{"a":{"a":[{"a":1},{"a":2}]},"":null}', {"a": {"a": [{"a": 1}, {"a": 2}]}, "": None}),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_what_is_json_is_taken(text: bytes, value: Any):
    assert parse_json(JSON, text)[0] == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda b: st.lists(b) | st.dictionaries(st.text(), b)
    )
)
def test_every_json_is_read_as_python_reads_it(value: Any):
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
        try:
            read, _ = parse_json(JSON, text)
        except BadRequest:
            assert b"u0000" in text or b"ud" in text.lower() or not ascii_only
        else:
            assert read == value


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


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_compressed_data_is_looked_at_to_its_end(client, encoding: str):
    whole = compressed(PLAIN, encoding)
    broken = [
        whole + b"junk",
        *(whole[:-cut] for cut in (1, 2, 4, 6)),
        whole + whole[:9],
        whole[:-1] + bytes([whole[-1] ^ 1]),
        b"junk",
    ]
    for body in broken:
        answer = post(client, body, **{"Content-Encoding": encoding})
        assert (answer.status_code, answer.json["code"]) == (400, "malformed_encoding"), body


@pytest.mark.parametrize(
    ("encoding", "pieces"), [("gzip", 2), ("x-gzip", 3), ("zstd", 2), ("zstd", 100), ("gzip", 100)]
)
def test_compressed_data_may_come_in_pieces(client, encoding: str, pieces: int):
    parts = [PLAIN[i * len(PLAIN) // pieces : (i + 1) * len(PLAIN) // pieces] for i in range(pieces)]
    body = b"".join(compressed(part, encoding.removeprefix("x-")) for part in parts)
    assert post(client, body, **{"Content-Encoding": encoding}).status_code == 201
    more = body + compressed(b" ", encoding.removeprefix("x-")) * (101 - pieces)
    answer = post(client, more, **{"Content-Encoding": encoding})
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_encoding")


def test_deflate_is_one_piece(client):
    answer = post(client, zlib.compress(PLAIN) + zlib.compress(b" "), **{"Content-Encoding": "deflate"})
    assert (answer.status_code, answer.json["code"]) == (400, "malformed_encoding")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_bomb_is_413(client, encoding: str):
    bomb = compressed(PLAIN + b" " * 32 * MIB, encoding)
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


@pytest.mark.parametrize(
    "route",
    [route for module in MODULES for route in module.all if route.bodies],
    ids=lambda route: f"{route.method} {route.path}",
)
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
