"""What pages of other origins may do in a browser, by both hosts of the API."""

import http.client
import re
import socket
from collections.abc import Iterator
from contextlib import closing

import pytest
from flask import Flask

from api.app import MODULES
from api.cors import ALLOWED, EXPOSED, Cors
from api.openapi.document import build_document
from dues.ids import new_id
from tests.factory import Factory
from tests.servers import Servers
from tests.webserver import WebServer

CLUB, ADMIN, EVIL = "https://club.example", "http://localhost:5173", "https://evil.example"


@pytest.fixture(scope="module", params=["server:app", "wsgi:app"])
def web(request: pytest.FixtureRequest, servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, target=request.param, CORS_ORIGINS=f"{CLUB},{ADMIN}", RATE_LIMIT="1000/60") as web:
        yield web


def ask(web: WebServer, method: str, path: str, **headers: str) -> tuple[int, dict[str, list[str]]]:
    """The status, and the values of each header field by its name in lower case."""
    with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)) as connection:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        body = answer.read()
        assert not (method == "OPTIONS" and answer.status < 400 and body)
        found: dict[str, list[str]] = {}
        for name, value in answer.headers.items():
            found.setdefault(name.lower(), []).extend(part.strip() for part in value.split(","))
        return answer.status, found


def test_a_page_of_an_origin_that_is_allowed_reads_every_answer(app: Flask, web: WebServer, make: Factory):
    store = make.store(owner := make.user())
    payments, auth = f"/v1/stores/{store.id}/payments", make.auth(owner)
    asked = [
        ("GET", payments, auth, 200),
        ("GET", payments, auth, 200),
        ("GET", f"/v1/stores/{store.id}", {}, 200),
        ("GET", payments, {}, 401),
        ("POST", payments, auth, 400),
        ("DELETE", payments, auth, 405),
        ("GET", "/v1//stores", {}, 404),
        ("GET", "/nothing", {}, 404),
        ("GET", "/openapi.json", {}, 200),
    ]
    for method, path, headers, expected in asked:
        for origin in (CLUB, ADMIN):
            status, fields = ask(web, method, path, Origin=origin, **headers)
            assert (path, status) == (path, expected)
            assert fields["access-control-allow-origin"] == [origin]
            assert fields["access-control-expose-headers"] == list(EXPOSED)
            assert "Origin" in fields["vary"]
            assert "access-control-allow-credentials" not in fields
        for other in ({}, {"Origin": EVIL}, {"Origin": "null"}, {"Origin": f"{CLUB}.evil.example"}):
            status, fields = ask(web, method, path, **other, **headers)
            assert status == expected
            assert "access-control-allow-origin" not in fields
            assert "Origin" in fields["vary"]


def test_a_browser_asks_first_without_a_token_and_against_no_limit(web: WebServer):
    wants = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "authorization,content-type"}
    for path in ("/v1/me", "/v1/tokens", "/nothing"):
        status, fields = ask(web, "OPTIONS", path, Origin=CLUB, **wants)
        assert status == 204
        assert fields["access-control-allow-origin"] == [CLUB]
        assert {"GET", "POST", "PUT", "PATCH", "DELETE"} <= set(fields["access-control-allow-methods"])
        assert fields["access-control-allow-headers"] == list(ALLOWED)
        assert int(fields["access-control-max-age"][0]) > 0
        assert not {"ratelimit", "content-type"} & fields.keys()
    status, fields = ask(web, "OPTIONS", "/v1/me", Origin=EVIL, **wants)
    assert "access-control-allow-origin" not in fields
    # What is no such question is answered as ever.
    status, fields = ask(web, "OPTIONS", "/v1/me", Origin=CLUB)
    assert (status, set(fields["allow"])) == (200, {"GET", "HEAD", "PATCH", "OPTIONS"})
    assert "content-type" not in fields


def test_every_route_says_what_it_allows_and_that_counts_against_no_limit(web: WebServer):
    """Plain OPTIONS: the methods of the path, and HEAD where there is GET."""
    allowed: dict[str, set[str]] = {}
    some_id = str(new_id())
    for route in (route for module in MODULES for route in module.all):
        methods = allowed.setdefault(re.sub(r"\{\w+\}", some_id, route.path), {"OPTIONS"})
        methods |= {"GET", "HEAD"} if route.method == "GET" else {route.method}
    assert len(allowed) > 60
    for path, methods in allowed.items():
        status, fields = ask(web, "OPTIONS", path)
        assert (path, status, set(fields["allow"])) == (path, 200, methods)
        assert not {"ratelimit", "content-type"} & fields.keys(), path


@pytest.mark.parametrize("path", ["/v1/nothing", "//v1/me", "*"])
def test_what_is_not_there_is_a_problem_to_options_too(web: WebServer, path: str):
    status, fields = ask(web, "OPTIONS", path)
    assert (status, fields.get("content-type")) == (404, ["application/problem+json"])


def test_what_cannot_be_read_is_refused_for_a_page_to_see(app: Flask, servers: Servers):
    with WebServer(servers, CORS_ORIGINS="*") as web:
        assert ask(web, "GET", "/healthz", Origin=EVIL)[1]["access-control-allow-origin"] == ["*"]
        assert "origin" not in str(ask(web, "GET", "/v1/stores")[1]["vary"]).lower()
        with closing(socket.create_connection(("127.0.0.1", web.port), timeout=10)) as raw:
            raw.sendall(b"nonsense\r\n\r\n")
            assert b"access-control-allow-origin: *\r\n" in raw.recv(65536)


def test_unless_origins_are_named_nothing_is_said(client):
    for headers in ({"Origin": CLUB}, {}):
        fields = client.get("/v1/stores", headers=headers).headers
        assert not [name for name, _ in fields if name.lower().startswith("access-control")]
        assert "Origin" not in fields["Vary"]
    assert Cors("").lines(CLUB) == b""


def test_pages_may_send_and_read_what_the_document_names():
    document = build_document(MODULES)
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    parameters = document["components"]["parameters"]
    sent = {
        parameter["name"]
        for operation in operations
        for named in operation.get("parameters", [])
        if (parameter := parameters[named["$ref"].rpartition("/")[2]] if "$ref" in named else named)["in"] == "header"
    }
    answers = [answer for operation in operations for answer in operation["responses"].values()]
    answers += document["components"]["responses"].values()
    read = {name for answer in answers for name in answer.get("headers", {})}
    # Stripe's servers are no pages.
    assert {name.lower() for name in sent} - {"stripe-signature"} <= {name.lower() for name in ALLOWED}
    assert {name.lower() for name in read} <= {name.lower() for name in EXPOSED}
    assert sent
    assert read
