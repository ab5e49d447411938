"""The edge: what Varnish keeps with deploy/varnish is never older than the last purge that it has acknowledged, and is
nobody's own. Skipped where there is no Varnish with xkey."""

import http.client
import itertools
import json
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace as Row
from typing import Any

import pytest
from flask import Flask

from api.app import create_app
from dues.postgres import db
from dues.reads.freshness import restore_cache_once
from local.ports import free_port, free_ports
from tests.deploy.gateways import PURGE_TOKEN, varnish
from tests.deploy.test_gateways import REPEATED, Seen, Site, Web
from tests.factory import Factory
from tests.payments.conftest import Work
from tests.servers import Servers, wait_until
from tests.webserver import WebServer


@dataclass
class Edge:
    port: int
    app: Flask

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)) as connection:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            if body is not None:
                sent["Content-Type"] = "application/json"
            connection.request(method, path, None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            return answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read()

    def has(self, path: str) -> bool:
        """Whether it has had an answer for a second: one of Dues' own has no age, however often it is asked for."""
        return int(self.ask("GET", path)[1]["age"]) > 0


@pytest.fixture(scope="module")
def edge(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    port = free_port()
    url = f"http://127.0.0.1:{port}/__purge"
    with (
        WebServer(servers, FORWARDED_ALLOW_IPS="127.0.0.1", PURGE_URL=url, PURGE_TOKEN=PURGE_TOKEN) as web,
        varnish(tmp_path_factory.mktemp("varnish"), port, [web.port]),
    ):
        app = create_app(servers.settings(purge_url=url, purge_token=PURGE_TOKEN))
        yield Edge(port, app)
        with app.app_context():
            db.engine.dispose()


@dataclass
class Catalogue:
    store: Row
    package: Row
    post: Row
    auth: dict[str, str]
    work: Work

    @property
    def store_path(self) -> str:
        return f"/v1/stores/{self.store.id}"

    @property
    def path(self) -> str:
        return f"{self.store_path}/packages"


@pytest.fixture
def catalogue(edge: Edge, make: Factory) -> Catalogue:
    owner = make.user()
    store = make.store(owner)
    post = make.post(owner, store=store)
    return Catalogue(store, make.package(store), post, make.auth(owner), Work(edge.app, make))


@dataclass
class Reader:
    """Reads a path all the time, and notes each answer that is older than a change whose purge had been acknowledged
    when it was asked for. A change is told by the greatest number that `pattern` finds."""

    edge: Edge
    path: str
    pattern: str
    acknowledged: int = 0
    reads: int = 0
    stale: list[str] = field(default_factory=list)

    def __enter__(self) -> "Reader":
        self._ends = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join()

    def _run(self) -> None:
        with closing(http.client.HTTPConnection("127.0.0.1", self.edge.port, timeout=30)) as connection:
            # With a pause, or readers would leave the interpreter to nobody who writes.
            while not self._ends.wait(0.002):
                self.look(connection)

    def look(self, connection: http.client.HTTPConnection) -> None:
        before = self.acknowledged
        try:
            connection.request("GET", self.path)
            answer = connection.getresponse()
        except ConnectionError:
            # Varnish closes one that nothing has come over for 5 s, as may be on a machine that stalls.
            connection.close()
            connection.request("GET", self.path)
            answer = connection.getresponse()
        found = answer.read().decode()
        number = max(map(int, re.findall(self.pattern, found)), default=0)
        self.reads += 1
        if answer.status != 200 or number < before:
            self.stale.append(f"{self.path}: {number} after {before}, status {answer.status}")


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("changes", [12, pytest.param(10_000, marks=pytest.mark.slow)])
def test_after_its_purge_nothing_old_is_given(edge: Edge, catalogue: Catalogue, changes: int):
    """With readers all the time, so that some answers are being made as the purge comes."""
    package, post = f"{catalogue.path}/{catalogue.package.id}", f"/v1/posts/{catalogue.post.id}"
    comment = json.loads(edge.ask("POST", f"{post}/comments", {"body": "Number 0"}, **catalogue.auth)[2])
    writes = [
        (package, "name", [package, catalogue.path]),
        (post, "body", [post, "/v1/posts", f"{catalogue.store_path}/posts"]),
        (comment["links"]["self"], "body", [f"{post}/comments", f"{post}?include=comments"]),
    ]
    with ExitStack() as stack, closing(http.client.HTTPConnection("127.0.0.1", edge.port, timeout=30)) as connection:
        readers = {
            path: stack.enter_context(Reader(edge, path, r"Number (\d+)")) for *_, paths in writes for path in paths
        }
        for number, (path, name, shown) in zip(range(1, changes + 1), itertools.cycle(writes), strict=False):
            changed = edge.ask("PATCH", path, {name: f"Number {number}"}, **catalogue.auth)
            assert changed[0] == 200, changed
            # When this returns, Varnish has acknowledged the purge.
            catalogue.work.drain()
            for each in shown:
                readers[each].acknowledged = number
                # Once by the edge, and once what it then has.
                readers[each].look(connection)
                readers[each].look(connection)
            assert [stale for reader in readers.values() for stale in reader.stale] == []
            if number in (changes, *range(0, changes, 500)):
                print(f"{number:,} changes, {sum(reader.reads for reader in readers.values()):,} reads", flush=True)

    def is_kept(path: str) -> bool:
        # A machine that stalls has the cache turned off, without which no post is for shared caches to keep. It is the
        # relay that turns it on again.
        with edge.app.app_context():
            restore_cache_once()
        return edge.has(path)

    # Between changes Dues itself is not asked.
    for path in (package, post):
        wait_until(partial(is_kept, path), 30, "an answer that Varnish had kept")


@pytest.mark.parametrize(
    "privacy",
    ["members", pytest.param("private", marks=pytest.mark.wide), pytest.param("followers", marks=pytest.mark.wide)],
)
def test_a_post_that_not_everybody_may_see_is_never_kept(edge: Edge, catalogue: Catalogue, privacy: str):
    post = f"/v1/posts/{catalogue.post.id}"
    paths = (post, f"{post}/comments", f"{post}/likes")
    for path in paths:
        wait_until(partial(edge.has, path), 30, "an answer that Varnish had kept")
    for shown, hidden in ((200, 404), (200, 200)):
        assert edge.ask("PATCH", post, {"privacy": privacy if hidden == 404 else "public"}, **catalogue.auth)[0] == 200
        catalogue.work.drain()
        for path in paths * 2:
            # What its author is shown is given to nobody else, and what nobody is shown not kept.
            assert edge.ask("GET", path, **catalogue.auth)[0] == shown
            assert edge.ask("GET", path)[0] == hidden


@pytest.fixture(scope="module")
def noting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The edge in front of web servers that only note what reaches them."""
    port, *ports = free_ports(3)
    breaks, seen = threading.Event(), list[Seen]()
    webs = [Web(each, breaks, seen) for each in ports]
    folder = tmp_path_factory.mktemp("noting")
    with ExitStack() as stack:
        for web in webs:
            stack.enter_context(web.served())
        stack.enter_context(varnish(folder, port, ports))
        yield Site(port, webs, folder / "varnish.log")


@pytest.mark.parametrize(("method", "headers", "body", "is_repeated"), REPEATED)
def test_what_a_web_server_hung_up_on_is_asked_of_another_where_twice_is_once(
    noting: Site, method: str, headers: dict[str, str], body: bytes, is_repeated: bool
):
    # Each has a connection left from before.
    for _ in noting.webs:
        noting.ask("GET", "/v1/before")
    noting.seen()
    noting.webs[0].breaks.set()
    status, fields = 503, {"retry-after": "2"}
    # Or the client is hung up on, too.
    with suppress(http.client.RemoteDisconnected):
        status, fields, _ = noting.ask(method, "/v1/x", headers, body)
    noting.webs[0].breaks.clear()
    # What only the head is wanted of is fetched whole, to be kept.
    asked = "GET" if method == "HEAD" else method
    assert [(each.method, each.body) for each in noting.seen()] == [(asked, body)] * (2 if is_repeated else 1)
    assert (status, fields.get("retry-after")) == ((200, None) if is_repeated else (503, "2"))


def test_assets_are_kept(edge: Edge):
    (script,) = re.findall(r'"(/assets/docs\.[^"]+\.js)"', edge.ask("GET", "/docs")[2].decode())
    wait_until(partial(edge.has, script), 30, "an answer that Varnish had kept")
    assert "x-request-id" not in edge.ask("GET", script, X_Request_Id="somebody-s-own")[1]


def test_each_coding_is_kept_apart_and_conditions_are_answered(edge: Edge, catalogue: Catalogue):
    plain = edge.ask("GET", catalogue.path)[2]
    for coding in ("zstd", "br", "gzip"):
        for _ in range(2):
            status, fields, body = edge.ask("GET", catalogue.path, Accept_Encoding=f"{coding}, deflate")
            assert (status, fields.get("content-encoding", "identity") in (coding, "identity")) == (200, True)
            assert (body == plain) == ("content-encoding" not in fields)
        assert edge.ask("GET", catalogue.path, Accept_Encoding=coding, If_None_Match=fields["etag"])[0] == 304


def test_what_is_somebody_s_own_is_never_kept(edge: Edge, catalogue: Catalogue, make: Factory):
    for _ in range(2):
        mine = edge.ask("GET", "/v1/me", **catalogue.auth)
        assert mine[0] == 200
        assert edge.ask("GET", "/v1/me", **make.auth(make.user()))[2] != mine[2]
        assert edge.ask("GET", "/v1/me")[0] == 401
        kept = edge.ask("GET", catalogue.path, X_Request_Id="somebody-s-own")[1]
        assert "somebody-s-own" not in kept.values()
        assert not {"x-request-id", "ratelimit", "surrogate-key", "cache-tag", "xkey"} & kept.keys()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/__purge", {}, 403),
        ("POST", "/__purge", {"Authorization": "Bearer wrong"}, 403),
        ("GET", "/__purge", {"Authorization": f"Bearer {PURGE_TOKEN}"}, 403),
        ("GET", "/metrics", {}, 404),
        ("GET", "//metrics", {}, 404),
        ("GET", "/readyz?ignore=redis", {}, 404),
    ],
)
def test_what_is_not_for_everybody(edge: Edge, method: str, path: str, headers: dict[str, str], status: int):
    found, fields, body = edge.ask(method, path, Surrogate_Key="stores", **headers)
    assert (found, fields["content-type"]) == (status, "application/problem+json")
    assert json.loads(body)["status"] == status
