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

from dues.ids import new_id
from dues.reads.freshness.backend import FreshCache
from local.valkey import Valkey
from tests.factory import Factory
from tests.reads.freshness.proxy import Proxy
from tests.servers import Servers, running, wait_until
from tests.webserver import WebServer


class Client:
    """A connection that is kept to one web server."""

    def __init__(self, web: WebServer, auth: dict[str, str]) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)
        self._auth = auth

    def ask(
        self, method: str, path: str, auth: dict[str, str] | None = None, **body: Any
    ) -> tuple[http.client.HTTPResponse, Any]:
        """`auth` is the owner's where it is not given."""
        headers = {**(self._auth if auth is None else auth), "Content-Type": "application/json"}
        self._connection.request(method, path, json.dumps(body) if body else None, headers)
        answer = self._connection.getresponse()
        return answer, json.loads(answer.read() or b"null")

    def close(self) -> None:
        self._connection.close()


@dataclass
class Scene:
    """Two servers; the second reaches Redis through a proxy."""

    clients: list[Client]
    path: str
    store: Made
    make: Factory
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
    store = make.store(owner)
    package: Made = make.package(store)
    with ExitStack() as stack:
        valkey = stack.enter_context(running(Valkey(folder, durable=False)))
        assert isinstance(valkey, Valkey)
        proxy = stack.enter_context(closing(Proxy(folder / "proxy.sock", valkey.url[len("unix://") :].split("?")[0])))
        operator = stack.enter_context(closing(redis.Redis.from_url(valkey.url)))
        webs = [
            stack.enter_context(WebServer(servers, threads=2, CACHE_REDIS_URL=url)) for url in (valkey.url, proxy.url)
        ]
        auth = make.auth(owner)
        stack.enter_context(_relay(FreshCache(servers.settings(), valkey.url, "dues:", 60)))
        path = f"/v1/stores/{package.store_id}/packages/{package.id}"
        clients = [stack.enter_context(closing(Client(web, auth))) for web in webs]
        yield Scene(clients, path, store, make, valkey, operator, proxy)


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


@pytest.mark.one_server("there is no cache")
def test_most_reads_are_hits_when_all_is_well_again(scene: Scene) -> None:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        scene.hits = 0
        scene.rounds(5)
        if scene.hits >= 10:
            return
    pytest.fail(f"{scene.hits} hits of 20")


def warm(client: Client, path: str, auth: dict[str, str]) -> None:
    """Read until this process answers from the cache."""
    wait_until(lambda: "desc=hit" in (client.ask("GET", path, auth)[0].headers["Server-Timing"] or ""), 40, "a hit")


@pytest.mark.one_server("there is no cache")
def test_a_token_that_one_process_revoked_is_refused_by_the_other(scene: Scene) -> None:
    one, other = scene.clients
    user = scene.make.user()
    for _ in range(5):
        token_id = new_id()
        auth = scene.make.auth(user, id=token_id)
        warm(other, "/v1/me", auth)
        assert one.ask("DELETE", f"/v1/tokens/{token_id}", auth)[0].status == 204
        # What nobody has asked for yet is refused like what the process has kept.
        for path in ("/v1/me/payments", "/v1/me"):
            assert [client.ask("GET", path, auth)[0].status for client in (other, one)] == [401, 401]


@pytest.mark.one_server("there is no cache")
def test_who_was_removed_from_the_staff_sees_no_more_of_it_anywhere(scene: Scene) -> None:
    one, other = scene.clients
    user = scene.make.user()
    auth, path = scene.make.auth(user), f"/v1/stores/{scene.store.id}/staff"
    for _ in range(5):
        assert one.ask("PUT", f"{path}/{user.id}", role="manager")[0].status == 200
        warm(other, path, auth)
        assert one.ask("DELETE", f"{path}/{user.id}")[0].status == 204
        for url in (f"{path}?per_page=7", path):
            assert [client.ask("GET", url, auth)[0].status for client in (other, one)] == [403, 403]


@pytest.mark.one_server("there is no cache")
def test_a_caller_who_is_known_is_not_looked_up_again(scene: Scene) -> None:
    client = scene.clients[0]
    auth, path = scene.make.auth(scene.make.user()), "/v1/me/payments"
    warm(client, path, auth)

    def scripts() -> int:
        return int(scene.operator.info("commandstats")["cmdstat_evalsha"]["calls"])

    before = scripts()
    for size in range(1, 6):
        assert client.ask("GET", f"{path}?per_page={size}", auth)[0].status == 200
    assert scripts() == before + 5


def test_one_url_never_shows_a_callers_answer_to_another(scene: Scene) -> None:
    users = [scene.make.user() for _ in range(4)]
    auths = [scene.make.auth(user) for user in users]
    for _ in range(3):
        for user, auth in zip(users, auths, strict=True):
            for client in scene.clients:
                assert client.ask("GET", "/v1/me", auth)[1]["id"] == str(user.id)
                assert client.ask("GET", "/v1/me", {})[0].status == 401
