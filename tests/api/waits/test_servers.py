"""Waiting on several processes, while Redis dies, when there is no more room, at the end, and on plain threads."""

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest

from dues.jobs import Run
from local.valkey import Valkey
from tests.api.waits.conftest import Hall, Work
from tests.api.waits.test_events import Stream
from tests.api.waits.test_slow_work import is_finished
from tests.contention import Contention
from tests.factory import Factory
from tests.jobs.conftest import Jobs
from tests.servers import Servers, running, wait_until
from tests.webserver import WebServer

COMES_BACK = {"If_None_Match": '"1"', "Prefer": "wait=20"}


@pytest.fixture(scope="module")
def threaded(servers: Servers) -> Iterator[WebServer]:
    with WebServer(servers, threads=4, target="wsgi:app") as server:
        yield server


@pytest.fixture
def plain(threaded: WebServer, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor) -> Hall:
    return Hall(threaded, make, jobs, pool)


@dataclass
class OwnRedis:
    hall: Hall
    valkey: Valkey


@pytest.fixture
def own(servers: Servers, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor, tmp_path) -> Iterator[OwnRedis]:
    """Two web processes with a Redis of their own, to which the changes made here are not hinted."""
    valkey = Valkey(tmp_path, durable=False)
    with running(valkey), WebServer(servers, REDIS_URL=valkey.url, WEB_CONCURRENCY="2") as web:
        yield OwnRedis(Hall(web, make, jobs, pool), valkey)


def test_without_hints_postgresql_tells_and_a_redis_that_dies_takes_nobody_along(own: OwnRedis):
    hall = own.hall
    first, second, third = (hall.job() for _ in range(3))
    # Connections go to either process.
    held = [hall.me.poll(first) for _ in range(12)]
    with Stream(hall.me, third) as stream:
        stream.next()
        hall.wait_for(13)
        hall.jobs.claimed(first)
        assert [one.result().status for one in held] == [200] * 12
        held = [hall.me.poll(second) for _ in range(6)]
        hall.wait_for(7)
        own.valkey.stop()
        began = time.monotonic()
        hall.jobs.claimed(second)
        Run(*hall.jobs.claimed(third)).complete(None)
        assert [one.result().json["status"] for one in held] == ["running"] * 6
        assert [event["id"] for event in stream.rest()][-1] == "3"
        assert time.monotonic() - began < 6
        # Without Redis one can begin to wait, too, and it may come back meanwhile.
        held = [hall.me.poll(second, 2) for _ in range(2)]
        hall.wait_for(2)
        own.valkey.start()
        hall.jobs.change(second, "version = version + 1")
        assert [one.result().status for one in held] == [200, 200]


def test_who_comes_back_while_redis_stands_still_waits_without_a_thread(
    servers: Servers, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor, tmp_path
):
    valkey = Valkey(tmp_path, durable=False)
    with running(valkey), WebServer(servers, REDIS_URL=valkey.url) as web:
        hall = Hall(web, make, jobs, pool)
        job_id, stranger = hall.job(), hall.caller()
        hall.introduce(hall.me)
        hall.introduce(stranger)
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            before = hall.statements
            held = [hall.me.poll(job_id, wait=3) for _ in range(8)]
            assert [one.result().status for one in held] == [304] * 8
            assert hall.statements == before
            # Whoever may not see the job is still not told of it.
            assert stranger.poll(job_id, wait=3).result().status == 404
        finally:
            os.kill(valkey.pid, signal.SIGCONT)


def test_beyond_the_bound_everybody_is_answered_at_once_and_at_the_end_too(
    servers: Servers, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor
):
    with WebServer(servers, MAX_WAITING_CLIENTS="3") as web:
        hall = Hall(web, make, jobs, pool)
        job_id, store = hall.job(), make.store(hall.me.user)
        held = [hall.me.poll(job_id) for _ in range(2)]
        with Stream(hall.me, job_id) as stream:
            stream.next()
            hall.wait_for(3)
            began = time.monotonic()
            answer = hall.me.poll(job_id).result()
            assert (answer.status, answer.headers.get("preference-applied")) == (304, None)
            assert hall.pay(store, Prefer="wait=20").result().status == 202
            with Stream(hall.me, job_id) as another:
                assert [event["id"] for event in another.rest()] == ["1"]
            assert time.monotonic() - began < 5
            began = time.monotonic()
            web.process.send_signal(signal.SIGTERM)
            assert [one.result().status for one in held] == [304, 304]
            assert stream.rest() == []
            assert web.process.wait(20) == 0
            assert time.monotonic() - began < 8


@pytest.mark.parametrize("target", ["server:app", "wsgi:app"])
def test_who_waits_because_it_wants_to_is_no_slow_request(
    target: str, servers: Servers, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor
):
    with WebServer(servers, target=target, SLOW_REQUEST_S="3") as web:
        hall = Hall(web, make, jobs, pool)
        job_id = hall.job()
        assert hall.me.poll(job_id, wait=4).result().status == 304
        # What a server logs is written a moment later.
        time.sleep(1)
    assert "slow request" not in web.log.read_text()


def test_a_slow_answer_is_told_of_though_its_client_would_have_waited(
    servers: Servers, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor
):
    contention = Contention(servers, make, pool)
    with WebServer(servers, MAX_WAITING_CLIENTS="1", SLOW_REQUEST_S="0.5") as web:
        hall = Hall(web, make, jobs, pool)
        job_id = hall.job()
        hall.introduce(hall.me)
        held = hall.me.poll(job_id)
        hall.wait_for(1)
        with contention.held("lock table jobs in access exclusive mode"):
            # There is no room for this one: it is answered as if it did not want to wait, which takes seconds. What
            # waits for the lock first may also be the server, which asks for news of the job that is waited for.
            (refused,) = contention.start(partial(hall.me.ask, "GET", f"/v1/jobs/{job_id}", **COMES_BACK))
            time.sleep(3)
        assert refused.result().status == 304
        hall.change(job_id)
        assert held.result().status == 200
        wait_until(lambda: "slow request" in web.log.read_text(), 10, "the slow answer in the log")


def test_on_threads_polls_and_events(plain: Hall):
    job_id = plain.job()
    held = plain.me.poll(job_id)
    with Stream(plain.me, job_id) as stream:
        assert stream.next()[0] == "1"
        plain.wait_for(2)
        # Half of the threads wait; no more may.
        assert plain.me.poll(job_id).result().status == 304
        run = Run(*plain.jobs.claimed(job_id))
        assert held.result().json["status"] == "running"
        assert stream.next()[0] == "2"
        assert plain.me.poll(job_id, 2, wait=1).result().headers["preference-applied"] == "wait=1"
        run.complete(None)
        assert [event["id"] for event in stream.rest()] == ["3"]
    assert plain.caller().poll(job_id).result().status == 404
    wait_until(lambda: plain.waiting == 0)


def test_on_threads_a_revoked_token_is_told_nothing(plain: Hall):
    job_id = plain.job()
    held = plain.me.poll(job_id)
    plain.wait_for(1)
    (token,) = plain.me.get("/v1/tokens").json["data"]
    assert plain.me.ask("DELETE", f"/v1/tokens/{token['id']}").status == 204
    plain.change(job_id)
    assert held.result().status == 401


def test_on_threads_slow_work(plain: Hall, work: Work):
    store = plain.make.store(plain.me.user)
    held = plain.pay(store, key="k", Prefer="wait=20")
    plain.wait_for(1)
    work.drain()
    assert is_finished(held.result())
    assert is_finished(plain.pay(store, key="k", Prefer="wait=20").result())
    assert not is_finished(plain.pay(store, Prefer="wait=1").result())


def test_threads_that_are_told_to_end_answer_all_whom_they_hold(
    servers: Servers, make: Factory, jobs: Jobs, pool: ThreadPoolExecutor
):
    with WebServer(servers, threads=8, target="wsgi:app") as web:
        hall = Hall(web, make, jobs, pool)
        job_id = hall.job()
        held = hall.me.poll(job_id)
        cursor = hall.me.get("/v1/sync").json["cursor"]
        synced = hall.me.later("GET", f"/v1/sync?cursor={cursor}", Prefer="wait=20")
        with Stream(hall.me, job_id) as stream:
            stream.next()
            hall.wait_for(2)
            wait_until(lambda: hall.waiting_for_changes == 1, what="a client that waits for changes")
            began = time.monotonic()
            web.process.send_signal(signal.SIGTERM)
            assert (held.result().status, synced.result().status) == (304, 200)
            assert stream.rest() == []
            assert web.process.wait(20) == 0
            assert time.monotonic() - began < 8
