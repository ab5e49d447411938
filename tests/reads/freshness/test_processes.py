"""Two web servers as they are run, one Redis in every kind of trouble: what one acknowledges, both show next."""

import http.client
import itertools
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from types import SimpleNamespace as Made
from typing import Any

import pytest
import redis

from dues.reads.freshness.backend import FreshCache
from local.valkey import Valkey
from tests.factory import Factory
from tests.reads.freshness.proxy import Proxy
from tests.servers import Servers, running
from tests.webserver import WebServer


class Client:
    """A connection that is kept to one web server."""

    def __init__(self, web: WebServer, auth: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
        self._auth = auth

    def ask(self, method: str, path: str, **body: Any) -> tuple[http.client.HTTPResponse, Any]:
        sent = json.dumps(body) if body else None
        self._connection.request(method, path, sent, {**self._auth, "Content-Type": "application/json"})
        answer = self._connection.getresponse()
        return answer, json.loads(answer.read())

    def close(self) -> None:
        self._connection.close()


@dataclass
class Scene:
    """Two servers; the second reaches Redis through a proxy."""

    clients: list[Client]
    path: str
    valkey: Valkey
    operator: redis.Redis
    proxy: Proxy
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    hits: int = 0

    def rounds(self, count: int) -> None:
        """Write through each server in turn, and read through both at once after each acknowledgement."""
        for writer, _ in zip(itertools.cycle(self.clients), range(count), strict=False):
            name = f"Name {next(self.numbers)}"
            answer, document = writer.ask("PATCH", self.path, name=name)
            assert answer.status == 200, document
            for _ in range(2):
                for reader in self.clients:
                    answer, document = reader.ask("GET", self.path)
                    assert (answer.status, document.get("name")) == (200, name)
                    self.hits += "desc=hit" in (answer.headers["Server-Timing"] or "")


@pytest.fixture(scope="module")
def scene(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("scene")
    servers.clean()
    make = Factory(servers.direct)
    owner = make.user()
    package: Made = make.package(make.store(owner))
    with ExitStack() as stack:
        valkey = stack.enter_context(running(Valkey(folder, durable=False)))
        assert isinstance(valkey, Valkey)
        proxy = stack.enter_context(closing(Proxy(folder / "proxy.sock", valkey.url[len("unix://") :].split("?")[0])))
        operator = stack.enter_context(closing(redis.Redis.from_url(valkey.url)))
        webs = [
            stack.enter_context(WebServer(servers, threads=2, CACHE_REDIS_URL=url)) for url in (valkey.url, proxy.url)
        ]
        auth = make.auth(owner)
        stack.enter_context(_relay(FreshCache(servers.database_url, valkey.url, "dues:", 60)))
        path = f"/v1/stores/{package.store_id}/packages/{package.id}"
        clients = [stack.enter_context(closing(Client(web, auth))) for web in webs]
        yield Scene(clients, path, valkey, operator, proxy)


class _relay:  # noqa: N801  (a context manager)
    """What the relay does for the cache, more often."""

    def __init__(self, cache: FreshCache) -> None:
        self._cache, self._over = cache, threading.Event()

    def __enter__(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while not self._over.wait(0.1):
            self._cache.restorer.restore_once(self._cache.switch.read())

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._cache.stop()


def flushed(scene: Scene) -> None:
    scene.operator.flushall()


def restarted(scene: Scene) -> None:
    scene.valkey.kill()
    scene.valkey.start()


def restored_from_an_old_copy(scene: Scene) -> None:
    copy = {name: scene.operator.get(name) for name in scene.operator.keys("*")}
    scene.rounds(1)
    restarted(scene)
    for name, value in copy.items():
        if value is not None:
            scene.operator.set(name, value)


def full_and_evicting(scene: Scene) -> None:
    scene.operator.config_set("maxmemory-policy", "allkeys-random")
    scene.operator.config_set("maxmemory", scene.operator.info("memory")["used_memory"] + 2000)


def full(scene: Scene) -> None:
    scene.operator.config_set("maxmemory", 1)


def paused(scene: Scene) -> None:
    os.kill(scene.valkey.pid, signal.SIGSTOP)
    threading.Timer(1.0, lambda: os.kill(scene.valkey.pid, signal.SIGCONT)).start()


def cut_off(scene: Scene) -> None:
    scene.proxy.cut = True


@pytest.mark.parametrize(
    "trouble", [flushed, restarted, restored_from_an_old_copy, full_and_evicting, full, paused, cut_off]
)
def test_what_one_process_wrote_both_show_next(scene: Scene, trouble: Callable[[Scene], None]) -> None:
    try:
        scene.rounds(3)
        trouble(scene)
        scene.rounds(6)
    finally:
        scene.proxy.cut = False
        scene.operator.config_set("maxmemory", 0)
        scene.operator.config_set("maxmemory-policy", "noeviction")
    scene.rounds(2)


def test_most_reads_are_hits_when_all_is_well_again(scene: Scene) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        scene.hits = 0
        scene.rounds(5)
        if scene.hits >= 10:
            return
    pytest.fail(f"{scene.hits} hits of 20")
