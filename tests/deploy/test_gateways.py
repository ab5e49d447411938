"""What each gateway of deploy/ does for every request: whose it is said to be, what is not passed on, what is tried
again, and what is said where no web server answers. In front of servers that only note what reaches them."""

import contextlib
import http.client
import json
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api.client_address import Proxies
from local.ports import free_ports
from tests.deploy.gateways import gateway, log_of
from tests.servers import Home, wait_until


@dataclass
class Seen:
    method: str
    path: str
    fields: dict[str, str]
    body: bytes


@dataclass
class Web:
    """Stands for a web server: notes each request. Of those that share `breaks`, the first to be asked once that is set
    hangs up where an answer is due. `keeps`: whether a connection stays open for the next request."""

    port: int
    breaks: threading.Event = field(default_factory=threading.Event)
    seen: list[Seen] = field(default_factory=list)
    keeps: bool = True
    is_ending: bool = False
    listening: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def end(self) -> None:
        """Take no new connections, and hang up on the next request of each that is open."""
        self.is_ending = True
        self.listening.close()

    @contextlib.contextmanager
    def served(self) -> Iterator["Web"]:
        web, connections = self, list[socket.socket]()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                connections.append(self.connection)

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                if len(body := self.rfile.read(length)) < length:
                    self.close_connection = True
                    return
                fields = {name.lower(): value for name, value in self.headers.items()}
                if not self.path.startswith(("/readyz?", "/healthz")):
                    web.seen.append(Seen(self.command, self.path, fields, body))
                    if web.breaks.is_set():
                        web.breaks.clear()
                        self.close_connection = True
                        return
                if web.is_ending:
                    self.close_connection = True
                    return
                content = json.dumps({"port": web.port}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                if not web.keeps:
                    self.send_header("Connection", "close")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PATCH = handle_any  # noqa: N815  (names of the base class)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        for step in (server.server_close, thread.join, server.shutdown):
            self.listening.callback(step)
        try:
            yield self
        finally:
            self.end()
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Site:
    port: int
    webs: list[Web]
    log: Path

    def ask(
        self,
        method: str,
        path: str,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
        source: str = "127.0.0.1",
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30, source_address=(source, 0))
        with contextlib.closing(connection):
            connection.request(method, path, body or None, headers or {})
            answer = connection.getresponse()
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()

    def seen(self) -> list[Seen]:
        """What has reached the web servers since this was asked last."""
        found = list(self.webs[0].seen)
        self.webs[0].seen.clear()
        return found


@pytest.fixture(scope="module", params=["caddy", "haproxy", "nginx"])
def running_site(request: pytest.FixtureRequest) -> Iterator[Site]:
    home = Home()
    # One that has hung up is passed over for a while, so there are some.
    breaks, seen = threading.Event(), list[Seen]()
    webs = [Web(port, breaks, seen) for port in free_ports(8)]
    with contextlib.ExitStack() as stack:
        stack.callback(home.remove)
        for web in webs:
            stack.enter_context(web.served())
        port = stack.enter_context(gateway(request.param, home.path, [web.port for web in webs]))
        yield Site(port, webs, log_of(request.param, home.path))


@pytest.fixture
def site(running_site: Site) -> Site:
    running_site.webs[0].breaks.clear()
    running_site.seen()
    return running_site


@pytest.mark.parametrize(
    "forged",
    [
        {},
        {"X-Forwarded-For": "203.0.113.9"},
        {"X-Forwarded-For": "203.0.113.9, 127.0.0.1"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-FORWARDED-FOR": "::1"},
        {"Forwarded": "for=203.0.113.9", "X-Real-IP": "203.0.113.9"},
        {"X-Forwarded-For": "203.0.113.9, 127.0.0.1, 127.0.0.1"},
        {"X-Forwarded-For": ", ,", "x-forwarded-for": "203.0.113.9"},
        {"Connection": "close, X-Forwarded-For", "X-Forwarded-For": "203.0.113.9"},
    ],
)
def test_whose_a_request_is_cannot_be_forged(site: Site, forged: dict[str, str]):
    assert site.ask("GET", "/v1/stores", forged, source="127.0.0.77")[0] == 200
    [seen] = site.seen()
    trusted = Proxies("127.0.0.1")
    assert trusted.client("127.0.0.1", seen.fields["x-forwarded-for"]) == "127.0.0.77"
    assert "203.0.113.9" not in json.dumps(seen.fields)
    assert not {"forwarded", "x-real-ip"} & seen.fields.keys()
    # By default nobody is believed, so that a client that reaches a web server directly gains nothing.
    assert Proxies("").client("192.0.2.1", "203.0.113.9") == "192.0.2.1"


@pytest.mark.parametrize(
    "path",
    ["/metrics", "/metrics/", "/readyz", "/metrics?x=1", "//metrics", "/%6detrics", "/./metrics", "/v1/../metrics"],
)
def test_what_is_for_operators_is_not_passed_on(site: Site, path: str):
    status, fields, body = site.ask("GET", path)
    reached = [seen.path for seen in site.seen()]
    # What Dues does not take for the path either may reach it, and is 404 there.
    assert status in (400, 404) or reached in (["/./metrics"], ["/v1/../metrics"])
    assert not {"/metrics", "/metrics/", "/readyz", "/metrics?x=1"} & set(reached)
    if status == 404:
        assert fields["content-type"] == "application/problem+json"
        assert "Caddy" not in fields.get("server", "")
        assert json.loads(body)["status"] == 404


def test_every_request_has_an_id_and_keeps_its_own(site: Site):
    site.ask("GET", "/v1/stores")
    own = {"X-Request-Id": "mine-1", "Traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01"}
    site.ask("GET", "/v1/stores", own)
    made, kept = site.seen()
    assert len(made.fields["x-request-id"]) >= 32
    assert kept.fields["x-request-id"] == "mine-1"
    assert kept.fields["traceparent"].startswith("00-1111")


def test_each_request_is_one_line_of_json_that_keeps_no_secret(site: Site):
    # Whose quote or backslash would end a string, and whose next field would be taken for the gateway's.
    path, own = '/v1/logged\\","status":999,"x":"\\', 'own-1\\","status":999,"x":"\\'
    secret = {"Authorization": "Bearer hunter2", "Cookie": "c=hunter2", "X-Request-Id": own}
    assert site.ask("GET", f"{path}?token=hunter2", secret)[0] == 200

    def lines() -> list[str]:
        return [line for line in site.log.read_text().splitlines() if "logged" in line]

    wait_until(lines, 20, "the line")
    (line,) = map(json.loads, lines())
    request = line.get("request", line)
    assert (request.get("uri", "?").partition("?")[0] or request["path"]) == path
    assert (line["status"], line["request_id"]) == (200, own)
    assert "hunter2" not in site.log.read_text()


BODY = b'{"amount":1500}' * 100
# A request that a web server has hung up on, and whether it is sent to another.
REPEATED = [
    ("GET", {}, b"", True),
    ("HEAD", {}, b"", True),
    ("POST", {"Idempotency-Key": "k-1"}, BODY, True),
    ("POST", {"Idempotency-Key": "k-1"}, b"", True),
    ("POST", {}, BODY, False),
    ("POST", {}, b"", False),
    ("PATCH", {}, BODY, False),
    ("PATCH", {"Idempotency-Key": "k-1"}, BODY, False),
]


@pytest.mark.parametrize(("method", "headers", "body", "is_repeated"), REPEATED)
def test_what_may_have_been_done_is_tried_again_where_twice_is_once(
    site: Site, method: str, headers: dict[str, str], body: bytes, is_repeated: bool
):
    # Some have a connection left from before.
    for _ in site.webs:
        site.ask("GET", "/v1/before")
    site.seen()
    site.webs[0].breaks.set()
    status, _, _ = site.ask(method, "/v1/x", headers, body)
    seen = site.seen()
    assert [(each.method, each.path, each.body) for each in seen] == [(method, "/v1/x", body)] * (
        2 if is_repeated else 1
    )
    assert status == 200 if is_repeated else status in (502, 503)


def test_a_body_that_is_too_large_is_refused_before_it_is_read(site: Site):
    size = 3 * 1024 * 1024
    with socket.create_connection(("127.0.0.1", site.port), 30) as connection:
        connection.sendall(b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 4096):
            if select.select([connection], [], [], 0)[0]:
                break
            # It may close between the look and this.
            with contextlib.suppress(OSError):
                connection.sendall(b"x" * 4096)
        assert connection.recv(4096).split()[1] == b"413"
    assert site.seen() == []
    assert site.ask("POST", "/v1/x", body=b"x" * 1024 * 1024)[0] == 200


CUT_OFF = {
    "malformed chunks": b"POST /v1/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nab\r\n0\r\n\r\n",
    "a body that breaks off": b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: 500\r\n\r\n{",
    "a file that breaks off": b"POST /v1/stores/1/imports HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n"
    + b"x" * (2 * 1024 * 1024 + 4096),
}


@pytest.mark.parametrize("sent", CUT_OFF.values(), ids=CUT_OFF)
def test_what_clients_send_wrongly_takes_no_web_server_out(site: Site, sent: bytes):
    for _ in range(3 * len(site.webs)):
        with socket.create_connection(("127.0.0.1", site.port), 30) as connection:
            with contextlib.suppress(OSError):
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                connection.recv(4096)
        # Where none is left, a gateway waits for one, and says 503 in the end.
        began = len(site.webs[0].seen)
        assert site.ask("GET", "/v1/after")[0] == 200
        assert [seen.path for seen in site.webs[0].seen[began:]].count("/v1/after") == 1
    assert all(site.ask("GET", "/v1/after")[0] == 200 for _ in site.webs)


def test_a_file_to_import_may_be_larger_than_other_bodies(site: Site):
    file = b"x" * (3 * 1024 * 1024)
    status, _, _ = site.ask("POST", "/v1/stores/019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20/imports?kind=customers", {}, file)
    assert (status, [len(each.body) for each in site.seen()]) == (200, [len(file)])


@contextlib.contextmanager
def site_of_one(name: str, keeps: bool) -> Iterator[Site]:
    """A gateway that believes in two web servers, where there is one."""
    home = Home()
    port, other = free_ports(2)
    with contextlib.ExitStack() as stack:
        stack.callback(home.remove)
        web = Web(port, keeps=keeps)
        stack.enter_context(web.served())
        yield Site(stack.enter_context(gateway(name, home.path, [port, other])), [web], log_of(name, home.path))


def says_that_none_answers(site: Site) -> bool:
    status, fields, body = site.ask("GET", '/v1/"stores')
    assert status in (502, 503)
    assert fields["content-type"] == "application/problem+json"
    assert fields["retry-after"] == "2"
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (status, "gateway")
    return True


@pytest.mark.parametrize("name", ["caddy", "haproxy", "nginx"])
def test_where_no_web_server_answers_it_says_so(name: str):
    with site_of_one(name, keeps=False) as site:
        site.webs[0].end()
        assert says_that_none_answers(site)


@pytest.mark.parametrize("name", ["caddy", "haproxy", "nginx"])
def test_where_the_last_web_server_ends_during_a_request_it_says_so(name: str):
    with site_of_one(name, keeps=True) as site:
        assert site.ask("GET", "/v1/before")[0] == 200
        site.seen()
        site.webs[0].end()
        # The request goes over the connection that the gateway has kept, and that ends with it.
        if name == "haproxy":
            # It passes the end of a kept connection on to its client, unless its checks have found all servers gone.
            with contextlib.suppress(http.client.RemoteDisconnected):
                assert says_that_none_answers(site)
        else:
            assert says_that_none_answers(site)
        assert says_that_none_answers(site)
