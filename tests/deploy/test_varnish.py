"""The edge: what Varnish keeps with deploy/varnish is never older than the last purge that it has acknowledged, and is
nobody's own. Skipped where there is no Varnish with xkey."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from types import SimpleNamespace as Row
from typing import Any

import pytest
from flask import Flask
from redis import Redis

from api.app import create_app
from dues.postgres import db
from local.ports import free_port
from tests.deploy.gateways import DEPLOY, answers, find, fitted
from tests.factory import Factory
from tests.payments.conftest import Work
from tests.servers import Servers, wait_until
from tests.webserver import WebServer

TOKEN = "a-token-that-the-edge-knows"


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


@pytest.fixture(scope="module")
def edge(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    varnishd, port = find("varnishd"), free_port()
    folder = tmp_path_factory.mktemp("varnish")
    url = f"http://127.0.0.1:{port}/__purge"
    settings = servers.settings(purge_url=url, purge_token=TOKEN)
    with WebServer(servers, PURGE_URL=url, PURGE_TOKEN=TOKEN, FORWARDED_ALLOW_IPS="127.0.0.1") as web:
        vcl = fitted(
            DEPLOY / "varnish" / "dues.vcl", folder / "dues.vcl", {'"8001"': f'"{web.port}"', '"8002"': f'"{web.port}"'}
        )
        with (folder / "log").open("wb") as log:
            words = f"-F -a 127.0.0.1:{port} -p http_gzip_support=off -j none -s malloc,16m"
            process = subprocess.Popen(
                [varnishd, *words.split(), "-f", vcl, "-n", folder / "n"],
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin:/usr/sbin", "DUES_PURGE_TOKEN": TOKEN},
            )
        try:
            wait_until(lambda: answers(port) or process.poll() is not None, 30, "Varnish")
            said = (folder / "log").read_text()
            if "xkey" in said and process.poll() is not None:
                pytest.skip("this machine's Varnish has no xkey")
            assert process.poll() is None, said
            app = create_app(settings)
            yield Edge(port, app)
            with app.app_context():
                db.engine.dispose()
        finally:
            process.terminate()
            process.wait(20)


@dataclass
class Catalogue:
    store: Row
    package: Row
    auth: dict[str, str]
    work: Work

    @property
    def path(self) -> str:
        return f"/v1/stores/{self.store.id}/packages"


@pytest.fixture
def catalogue(edge: Edge, servers: Servers, make: Factory) -> Iterator[Catalogue]:
    owner = make.user()
    store = make.store(owner)
    with closing(Redis.from_url(servers.redis_url)) as redis:
        yield Catalogue(store, make.package(store), make.auth(owner), Work(edge.app, redis, make))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("changes", [10, pytest.param(2_000, marks=pytest.mark.slow)])
def test_after_its_purge_nothing_old_is_given(edge: Edge, catalogue: Catalogue, changes: int):
    one = f"{catalogue.path}/{catalogue.package.id}"
    for number in range(changes):
        name = f"Name {number}"
        changed = edge.ask("PATCH", one, {"name": name}, **catalogue.auth)
        assert changed[0] == 200
        # When this returns, Varnish has acknowledged the purge.
        catalogue.work.drain()
        for path in (one, catalogue.path):
            for _ in range(2):
                status, fields, body = edge.ask("GET", path)
                assert (status, name in body.decode()) == (200, True), (number, path, fields)
    # Between changes Dues itself is not asked: an answer of its own has no age, however often it is asked for.
    wait_until(lambda: int(edge.ask("GET", one)[1]["age"]) > 0, 30, "an answer that Varnish had kept")


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
        ("GET", "/__purge", {"Authorization": f"Bearer {TOKEN}"}, 403),
        ("GET", "/metrics", {}, 404),
        ("GET", "//metrics", {}, 404),
        ("GET", "/readyz?ignore=redis", {}, 404),
    ],
)
def test_what_is_not_for_everybody(edge: Edge, method: str, path: str, headers: dict[str, str], status: int):
    found, fields, body = edge.ask(method, path, Surrogate_Key="stores", **headers)
    assert (found, fields["content-type"]) == (status, "application/problem+json")
    assert json.loads(body)["status"] == status
