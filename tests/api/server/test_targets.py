"""What a request line's target says: the same to both hosts, or it is refused by both in the same words."""

import re
import socket
import threading
from collections.abc import Iterator

import pytest
import ujson
from flask import Response, g
from werkzeug.serving import make_server

from api.app import create_app
from api.flask_host import respond
from api.reply import json_reply
from tests.api.server.teller import Teller
from tests.servers import Servers

# The path and the query, or the code of what is answered.
Told = tuple[str, str] | str

TARGETS: dict[bytes, Told] = {
    b"/v1/x": ("/v1/x", ""),
    b"/v1/x?": ("/v1/x", ""),
    b"/v1/x?a=1&b=?": ("/v1/x", "a=1&b=?"),
    b"/v1/x?q=%C3%A9&r=%7e": ("/v1/x", "q=%C3%A9&r=%7e"),
    b"http://other/v1/x?a=1": ("/v1/x", "a=1"),
    b"/v1/%78?a=1": "not_found",
    b"/v1/x#f": "not_found",
    b"/v1/x?q=1#f": "not_found",
    b"/v1/x#f?q=1": "not_found",
    b"*": "malformed_request",
    b"v1/x": "malformed_request",
    b"h:443": "malformed_request",
    b"mailto:x": "malformed_request",
    b"http:/v1": "malformed_request",
    b"ftp://h/v1/x": "not_found",
    b"http://h": "not_found",
    b"/v1/x?q=\xc3\xa9": "malformed_request",
    b"/v1/x?q=\xff": "malformed_request",
    b"/v1/x?q=\x7f": "malformed_request",
    b"/v1/x?q=\x01": "malformed_request",
    b"/v1/\xc3\xa9": "malformed_request",
    b"/v1/x?" + b"&" * 100: "too_many_parameters",
}


@pytest.fixture(scope="module")
def on_the_loop() -> Iterator[int]:
    with Teller() as teller:
        yield teller.port


@pytest.fixture(scope="module")
def in_flask(servers: Servers) -> Iterator[int]:
    """Behind a WSGI server that passes on whatever it is sent; gunicorn refuses some of it by itself."""
    app = create_app(servers.settings(rate_limit="off"))

    @app.before_request
    def tell() -> Response:
        return respond(json_reply({"path": g.request.path, "query": g.request.query}))

    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()


def told_at(port: int, target: bytes) -> Told:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        with connection.makefile("rb") as answer:
            document = ujson.loads(re.split(rb"\r\n\r\n", answer.read(), maxsplit=1)[1])
    if "code" in document:
        return str(document["code"])
    return (document["path"], document["query"]) if document["path"] else "not_found"


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: repr(target[:20]))
def test_both_hosts_read_one_target_in_one_way(on_the_loop: int, in_flask: int, target: bytes) -> None:
    assert [told_at(port, target) for port in (on_the_loop, in_flask)] == [TARGETS[target]] * 2
