"""Compressed answers: what is compressed, how, and under which ETag."""

import gzip
import re
import time
import zlib

import brotli
import pytest
import zstandard

from api.compress import SMALLEST, choose_encoding, encode
from api.reply import Reply
from api.request import make_request

DECODE = {
    "gzip": gzip.decompress,
    "br": brotli.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}
LARGE = b'{"data":"' + b"abcdefgh" * 512 + b'"}'


@pytest.fixture
def large(client, make):
    """The path of a list of more than 1 KiB."""
    store = make.store()
    for _ in range(5):
        make.package(store)
    return f"/v1/stores/{store.id}/packages"


def encoded(reply: Reply, accept: str = "zstd, br, gzip") -> Reply:
    encode(make_request("GET", "/", {"accept-encoding": accept}, ""), reply)
    return reply


@pytest.mark.parametrize("name", ["zstd", "br", "gzip"])
def test_lists_are_compressed(client, large, name):
    plain = client.get(large)
    answer = client.get(large, headers={"Accept-Encoding": name})
    assert answer.headers["Content-Encoding"] == name
    assert len(answer.data) == int(answer.headers["Content-Length"]) < len(plain.data)
    assert DECODE[name](answer.data) == plain.data
    assert "Content-Encoding" not in plain.headers


def test_caches_are_told_what_it_depends_on(client, large):
    for headers in ({}, {"Accept-Encoding": "zstd"}):
        vary = client.get(large, headers=headers).headers["Vary"]
        assert [name.strip().lower() for name in vary.split(",")] == ["accept-encoding", "authorization"]


def test_every_encoding_has_an_etag_of_its_own(client, large):
    tags = {client.get(large, headers={"Accept-Encoding": name}).headers["ETag"] for name in ("", *DECODE)}
    assert len(tags) == 4


@pytest.mark.parametrize("name", ["zstd", "br", "gzip"])
def test_the_etag_of_a_compressed_answer_is_recognised(client, large, queries, name):
    etag = client.get(large, headers={"Accept-Encoding": name}).headers["ETag"]
    again = client.get(large, headers={"Accept-Encoding": name, "If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == etag
    assert "Content-Encoding" not in again.headers


def test_a_weakened_or_listed_etag_is_recognised_too(client, large):
    etag = client.get(large, headers={"Accept-Encoding": "br"}).headers["ETag"]
    for header in (f"W/{etag}", f'"other", {etag}', "*"):
        assert client.get(large, headers={"Accept-Encoding": "br", "If-None-Match": header}).status_code == 304
    assert client.get(large, headers={"If-None-Match": '"other:br"'}).status_code == 200


def test_a_compressed_etag_serves_if_match(client, make):
    owner = make.user()
    store = make.store(owner)
    package = make.package(store, description="d" * 2000)
    path = f"/v1/stores/{store.id}/packages/{package.id}"
    headers = make.auth(owner)
    etag = client.get(path, headers={**headers, "Accept-Encoding": "zstd"}).headers["ETag"]
    assert etag.endswith(':zstd"')
    changed = client.patch(path, json={"name": "Silver"}, headers={**headers, "If-Match": etag})
    assert changed.status_code == 200
    assert client.patch(path, json={"name": "Tin"}, headers={**headers, "If-Match": etag}).status_code == 412


def test_one_etag_has_one_body(client, large, monkeypatch):
    first = client.get(large, headers={"Accept-Encoding": "gzip"})
    monkeypatch.setattr(time, "time", lambda: 4e9)
    second = client.get(large, headers={"Accept-Encoding": "gzip"})
    assert (first.headers["ETag"], first.data) == (second.headers["ETag"], second.data)
    assert first.data[4:8] == bytes(4)


@pytest.mark.parametrize(("size", "compressed"), [(SMALLEST - 1, False), (SMALLEST, True)])
def test_small_answers_are_left_alone(size, compressed):
    reply = encoded(Reply(b" " * size))
    assert ("Content-Encoding" in reply.headers) == compressed
    assert reply.headers["Vary"] == "Accept-Encoding"


def test_problem_details_are_compressed(client):
    answer = client.get("/v1/stores?" + "&".join(f"unknown{n}=1" for n in range(60)), headers={"Accept-Encoding": "br"})
    assert (answer.status_code, answer.headers["Content-Encoding"]) == (400, "br")
    assert b'"status":400' in DECODE["br"](answer.data)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(LARGE, 206),
        Reply(LARGE, mimetype="application/pdf"),
        Reply(LARGE, mimetype="text/event-stream"),
        Reply(LARGE, headers={"Content-Encoding": "gzip"}),
        Reply(None, 204),
    ],
    ids=["part", "document", "events", "compressed", "none"],
)
def test_what_must_stay_as_it_is(reply):
    before = reply.headers.get("Content-Encoding")
    body = reply.body
    assert encoded(reply).body == body
    assert reply.headers.get("Content-Encoding") == before


def test_pages_are_compressed_too(client):
    (script,) = re.findall(r'"(/assets/docs\.[^"]+\.js)"', client.get("/docs").text)
    answer = client.get(script, headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    assert zlib.decompress(answer.data, 31)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", None),
        ("gzip", "gzip"),
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "br"),
        ("GZIP", "gzip"),
        ("*", "zstd"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("br;q=0.5, zstd;q=0.5", "zstd"),
        ("gzip;q=0", None),
        ("gzip;q=0, br", "br"),
        ("*;q=0", None),
        ("*;q=0, gzip", "gzip"),
        ("zstd;q=0, *", "br"),
        ("identity", None),
        ("identity;q=0, gzip;q=0.5", "gzip"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip", "gzip"),
        ("gzip; q=0.8 , br;q=0", "gzip"),
        ("deflate, compress", None),
        ("gzip;q=lots", None),
        ("gzip;q=nan", None),
        (";;,,=;q", None),
    ],
)
def test_the_encoding_is_the_one_that_the_client_wants(accept, chosen):
    assert choose_encoding(accept) == chosen
