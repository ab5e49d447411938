"""Patroni under Dues: PostgreSQL changes hands, as planned, by a crash, without etcd, and where Patroni itself hangs,
while clients pay. `bin/test --slow -s tests/deploy/patroni` prints how long each outage was from outside."""

import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count

import pytest

from api.app import create_app
from dues.ids import new_id
from tests.deploy.patroni.cluster import Cluster, Haproxy, cluster, halt
from tests.deploy.patroni.payers import Traffic, paying
from tests.factory import Factory
from tests.servers import Backing, Direct, Home, Servers, run_migrations, running, wait_until
from tests.webserver import WebServer
from tests.workers.conftest import Processes

_hundreds = count(1)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def patroni() -> Iterator[Cluster]:
    with cluster() as found:
        run_migrations(found.url)
        yield found


class House(Backing):
    """What Dues stands on, with a PostgreSQL of `url`."""

    def __init__(self, servers: Servers, url: str) -> None:
        self.home, self.redis_url, self.mail, self.database_url = servers.home, servers.redis_url, servers.mail, url


class Stage:
    """Two web servers, a relay and workers, and who pays there."""

    def __init__(self, patroni: Cluster, webs: list[WebServer], make: Factory, traffic: Traffic) -> None:
        self.patroni, self.webs, self.make, self._traffic = patroni, webs, make, traffic
        self.told, self._probe = traffic.told, traffic.probe
        self._store = make.store()
        make.package(self._store)
        self._auth = make.auth(make.user())

    @contextmanager
    def act(self, what: str) -> Iterator[float]:
        """Do something to the database; afterwards payments are taken again, the cache is on, and /readyz says so.
        Yields: when it began."""
        self.flows(time.monotonic())
        began = time.monotonic()
        yield began
        self.flows(time.monotonic())
        outage_s, since = self.told.longest_gap_s(began), time.monotonic()
        wait_until(lambda: self.told.hits[-1:] > [since], 30, "the cache to be on again")
        wait_until(lambda: self._probe.said[-1][1], 15, "/readyz")
        print(f"\n{what}: outage {outage_s:.1f} s, misses afterwards {self._misses()}")

    def flows(self, since: float) -> None:
        """Payments are acknowledged."""
        wait_until(lambda: sum(moment > since for moment in self.told.moments[-8:]) >= 4, 90, "payments to be taken")

    def unready_since(self, began: float) -> bool:
        return any(moment >= began and not is_ready for moment, is_ready in self._probe.said)

    def _misses(self) -> str:
        def get(number: int) -> float:
            path = (
                f"/v1/stores/{self._store.id}/packages?per_page={number % 100 + 1}&page={time.time_ns() % 10_000 + 1}"
            )
            began = time.monotonic()
            with urllib.request.urlopen(self.webs[number % 2].url + path, timeout=30) as answer:
                json.load(answer)
            return (time.monotonic() - began) * 1000

        with ThreadPoolExecutor(4) as pool:
            took_ms = sorted(pool.map(get, range(200)))
        return f"p50 {took_ms[100]:.0f} ms, p99 {took_ms[197]:.0f} ms"


@contextmanager
def stage(servers: Servers, patroni: Cluster, url: str, replica_urls: str) -> Iterator[Stage]:
    """Dues on the cluster by `url`, under load; at its end all that was acknowledged is there once, and was charged."""
    servers.redis.flushdb()
    house = House(servers, url)
    processes = Processes(house)
    with ExitStack() as stack:
        webs = [WebServer(house, DATABASE_REPLICA_URLS=replica_urls) for _ in range(2)]
        with ThreadPoolExecutor(2) as threads:
            list(threads.map(WebServer.__enter__, webs))
        for web in webs:
            stack.push(web)
        said = str(servers.home / "workers.log")
        processes.start_both(
            "critical:2,default:1,events:1", DATABASE_REPLICA_URLS=replica_urls, DUES_TESTS_OUTPUT=said
        )
        stack.callback(processes.end)
        stack.callback((direct := Direct(patroni.url, house.forget)).close)
        make = Factory(direct)
        # The database is that of the test before.
        make._numbers = count(next(_hundreds) * 100)
        before = make.value("select count(*) from payments")
        with paying(webs, make) as traffic:
            found = Stage(patroni, webs, make, traffic)
            yield found
        told = traffic.told
        print(
            f"{len(told.acknowledged):,} acknowledged, {told.looks:,} looks, of which {len(told.hits):,} from the cache"
        )
        print(f"refused: {dict(told.refused)}; slowest request {told.slowest_s:.1f} s")
        assert told.faults == []
        assert told.stale == []
        ids = list(told.acknowledged.values())
        assert len(set(ids)) == len(ids)
        kept = {str(row.id) for row in make.rows("select id from payments")}
        assert set(ids) <= kept
        # Those that clients had not been told of at the end, one each at most.
        assert before + len(ids) <= len(kept) <= before + len(ids) + 4
        # The relay and the workers have found the way as well.
        open_ = "select count(*) from payments where status <> 'succeeded'"
        wait_until(lambda: make.value(open_) == 0, 90, "all payments to be charged")


def test_what_deploy_has_is_what_patroni_takes(patroni: Cluster):
    member = patroni.members[0]
    assert member.validate() == (0, "")
    status, said = member.validate(**{"ttl: 20": "ttl: soon"})
    assert status == 1
    assert "bootstrap.dcs.ttl soon" in said


def test_a_standby_is_not_read_in_the_primary_s_place(servers: Servers, patroni: Cluster):
    """DATABASE_URL leads to it, as a name or a floating address may while PostgreSQL fails over."""
    standby = patroni.other(patroni.wait_until_safe())
    (url,) = (url for url in patroni.server_urls.split() if f":{standby.port}/" in url)
    client = create_app(servers.settings(database_url=url)).test_client()
    answer = client.get(f"/v1/stores/{new_id()}/packages")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    ready = client.get("/readyz")
    assert ready.json
    assert (ready.status_code, ready.json["detail"]) == (503, "the database is a standby")


def test_by_a_url_of_all_servers(servers: Servers, patroni: Cluster):
    with stage(servers, patroni, patroni.url, patroni.server_urls) as dues:
        leader = patroni.wait_until_safe()
        with dues.act("planned switchover"):
            patroni.switch_over()
            wait_until(lambda: patroni.other(leader).is_("primary"), 30, "the other one to lead")
        leader = patroni.wait_until_safe()
        with dues.act("leader killed") as began:
            leader.kill_all()
            wait_until(lambda: patroni.other(leader).is_("primary"), 60, "the other one to lead")
        assert dues.unready_since(began)
        with dues.act("old leader back"):
            leader.start()
            assert patroni.wait_until_safe() is not leader
        assert leader.value("select pg_is_in_recovery()")


def test_by_haproxy(servers: Servers, patroni: Cluster):
    """Patroni's own troubles. HAProxy asks it who is the leader, so that a server whose Patroni hangs is left."""
    with ExitStack() as stack:
        home = Home()
        stack.callback(home.remove)
        haproxy = Haproxy(home.path, patroni.members)
        stack.enter_context(running(haproxy))
        dues = stack.enter_context(stage(servers, patroni, haproxy.url, ""))
        with dues.act("etcd away for 25 s"):
            halt(patroni.etcd, halted=True)
            time.sleep(25)
            halt(patroni.etcd, halted=False)
        leader = patroni.wait_until_safe()
        with dues.act("the leader's Patroni stands still"):
            halt(leader, halted=True)
            wait_until(lambda: patroni.other(leader).is_("primary"), 60, "the other one to lead")
            dues.flows(time.monotonic())
        # Its PostgreSQL does not know that it leads no more, and nobody asks it anything: what is left are commits that
        # wait for a standby, and those that wait for their locks, none of which notice that nobody listens any more.
        assert not leader.value("select pg_is_in_recovery()")
        left = (
            "select count(*) from pg_stat_activity where application_name like 'dues%'"
            " and wait_event_type is distinct from 'Lock' and wait_event is distinct from 'SyncRep'"
        )
        wait_until(lambda: leader.value(left) == 0, 10, "the old leader to be left")
        halt(leader, halted=False)
        assert patroni.wait_until_safe() is not leader

        leader = patroni.wait_until_safe()
        standby = patroni.other(leader)
        with dues.act("the standby stands still"), standby.standing_still():
            dues.flows(time.monotonic())
        patroni.wait_until_safe()
        with dues.act("the standby is killed"):
            standby.kill_all()
        standby.start()
        assert patroni.wait_until_safe() is leader
