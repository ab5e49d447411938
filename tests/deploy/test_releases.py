"""Web servers behind the gateway that die, are stopped, and are taken over from by new releases, under load: no request
that may be sent twice fails, and no payment is made twice."""

import http.client
import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace as Row

import psutil
import pytest

from dues.ids import new_id
from local.gateway import Gateway
from local.ports import free_ports
from tests.api.waits.conftest import Caller
from tests.api.waits.test_events import Stream
from tests.deploy.gateways import gateway, reload_caddy
from tests.factory import Factory
from tests.jobs.conftest import Jobs, in_app, jobs
from tests.servers import Servers, running, wait_until
from tests.webserver import WebServer

__all__ = ["in_app", "jobs"]

_CLIENTS = 4


class Fleet:
    """The web servers of one release after another, behind a gateway that knows twice as many places as are taken."""

    def __init__(self, servers: Servers, places: list[int], stack: ExitStack) -> None:
        self._servers, self._places, self._stack = servers, places, stack
        self.webs: list[WebServer] = []

    def start(self, count: int) -> None:
        """More web servers, on ports that nobody has now."""
        free = [port for port in self._places if port not in [web.port for web in self.webs]]
        webs = [WebServer(self._servers, PORT=str(port), FORWARDED_ALLOW_IPS="127.0.0.1") for port in free[:count]]
        with ThreadPoolExecutor(count) as threads:
            list(threads.map(WebServer.__enter__, webs))
        for web in webs:
            self._stack.push(web)
        self.webs += webs

    def release(self) -> None:
        """As docs/operating.md says: start new ones beside the old, have the gateway find them, then stop the old."""
        old = list(self.webs)
        self.start(max(1, len(old)))
        wait_until(lambda: all(map(has_been_found, self.webs)), 20, "the gateway to ask the new web servers")
        self.stop(old)

    def stop(self, webs: list[WebServer]) -> None:
        self.webs = [web for web in self.webs if web not in webs]
        for web in webs:
            web.process.terminate()
        assert [web.process.wait(30) for web in webs] == [0] * len(webs)

    def kill(self, web: WebServer) -> None:
        """The main process and all below it, as a machine that loses its power."""
        self.webs.remove(web)
        for process in [psutil.Process(web.process.pid), *psutil.Process(web.process.pid).children(recursive=True)]:
            process.kill()
        web.process.wait()


@dataclass
class Site:
    """A gateway, and the web servers behind it."""

    port: int
    fleet: Fleet
    gateway: Gateway


@pytest.fixture(scope="module")
def _site(servers: Servers) -> Iterator[Site]:
    port, tls_port, *places = free_ports(6)
    with ExitStack() as stack:
        fleet = Fleet(servers, places, stack)
        fleet.start(2)
        caddy = Gateway(servers.home, port, tls_port, places)
        stack.enter_context(running(caddy))
        yield Site(port, fleet, caddy)


@pytest.fixture
def site(_site: Site, make: Factory) -> Site:
    """Caddy, and two web servers."""
    if missing := 2 - len(_site.fleet.webs):
        _site.fleet.start(missing)
    return _site


class Load:
    """Clients that send idempotent requests, one after another, and note what becomes of each."""

    def __init__(self, port: int, store: Row, auth: dict[str, str]) -> None:
        self._port, self._store, self._auth = port, store, auth
        self._ends = threading.Event()
        self._lock = threading.Lock()
        self.outcomes: Counter[str] = Counter()
        self.payments: dict[str, str] = {}

    def __enter__(self) -> "Load":
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(_CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    @property
    def done(self) -> int:
        return sum(self.outcomes.values())

    @property
    def failed(self) -> dict[str, int]:
        return {outcome: count for outcome, count in self.outcomes.items() if outcome not in ("200", "202")}

    def _run(self, client: int) -> None:
        store = f"/v1/stores/{self._store.id}"
        job = f"{store}/packages"
        turn = 0
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)) as connection:
            while not self._ends.is_set():
                turn += 1
                # A list that is kept, one that nobody has asked for, a payment, and the status of its job.
                if turn % 4 == 1:
                    key = new_id().hex
                    fields, found = self._ask(connection, "POST", f"{store}/payments", key)
                    job = fields.get("location", job)
                    with self._lock:
                        self.payments[key] = found.get("id", "")
                else:
                    path = {2: f"{store}/packages", 3: f"{store}/packages?per_page={1 + turn % 50}", 0: job}[turn % 4]
                    self._ask(connection, "GET", path)

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, key: str = ""
    ) -> tuple[dict[str, str], dict[str, str]]:
        body = {"amount": 1500, "currency": "EUR", "payment_method": "sandbox_ok"} if key else None
        headers = self._auth | ({"Idempotency-Key": key, "Content-Type": "application/json"} if key else {})
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            content = answer.read()
            outcome = str(answer.status)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            fields, content, outcome = {}, b"", repr(error)
        with self._lock:
            self.outcomes[outcome if outcome in ("200", "202") else f"{method} {outcome} {content[:200]!r}"] += 1
        return fields, json.loads(content) if outcome == "202" else {}


def strike(fleet: Fleet, port: int, make: Factory, requests: int) -> None:
    """Have web servers die and releases follow each other, until so many requests were sent; none may fail."""
    store = make.store()
    make.package(store)
    auth = make.auth(make.user())
    with Load(port, store, auth) as load:
        wait_until(lambda: load.done > 20, 30, "requests")
        while True:
            # One dies while the gateway counts on it; then two releases follow each other.
            fleet.kill(fleet.webs[0])
            fleet.release()
            fleet.release()
            if load.done >= requests or load.failed:
                break
            fleet.start(1)
    assert load.failed == {}
    assert load.done >= requests
    # No payment twice, and none that was acknowledged is missing.
    assert make.value("select count(*) from payments") == len(load.payments)
    assert len(set(load.payments.values())) == len(load.payments)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("requests", [100, pytest.param(10_000, marks=pytest.mark.slow)])
def test_no_request_is_lost_while_web_servers_die_and_releases_follow_each_other(
    site: Site, make: Factory, requests: int
):
    strike(site.fleet, site.port, make, requests)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_none_is_lost_behind_another_gateway(servers: Servers, make: Factory, tmp_path: Path, name: str):
    with ExitStack() as stack:
        fleet = Fleet(servers, places := list(free_ports(4)), stack)
        fleet.start(2)
        strike(fleet, stack.enter_context(gateway(name, tmp_path, places)), make, 400)


def test_streams_and_waits_go_on_where_they_were(site: Site, make: Factory, jobs: Jobs):
    with ThreadPoolExecutor(4) as pool:
        user = make.user()
        fleet = site.fleet
        me = Caller(site.port, user, make.auth(user), pool)
        job_id = jobs.add(owner_id=user.id)
        with Stream(me, job_id) as stream:
            number, _ = stream.next()
            # A change of the gateway's own configuration breaks no stream.
            reload_caddy(site.gateway)
            jobs.change(job_id, "version = version + 1")
            assert stream.next()[0] == "2"
            held = [me.poll(job_id, 2) for _ in range(2)]
            wait_until(lambda: sum(waiting(web) for web in fleet.webs) == 3, 15, "three waiting clients")
            fleet.stop(fleet.webs)
            # Told to come back, not cut off.
            assert stream.rest() == []
            assert [one.result().status for one in held] == [304, 304]
        fleet.start(1)
        jobs.change(job_id, "version = version + 1")
        with Stream(me, job_id, Last_Event_ID="2") as stream:
            assert stream.next()[0] == "3"
        assert number == "1"


def has_been_found(web: WebServer) -> bool:
    """Whether somebody has asked it for anything but what tests ask for as it starts."""
    counts = [line for line in metrics_of(web) if line.startswith("dues_http_request_duration_seconds_count{")]
    return any('route="/healthz"' not in line and 'route="/metrics"' not in line for line in counts)


def waiting(web: WebServer) -> int:
    lines = metrics_of(web)
    return sum(int(float(line.split()[1])) for line in lines if line.startswith("dues_waiting_clients "))


def metrics_of(web: WebServer) -> list[str]:
    with urllib.request.urlopen(f"{web.url}/metrics", timeout=10) as answer:
        return list(answer.read().decode().splitlines())
