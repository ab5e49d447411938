"""On a server of threads a client that is held has a thread: half of them are always left to others."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from flask import Flask

from api.long_poll import COMMENT
from api.reply import Poke, Reply, Waiting, no_content
from api.request import make_request
from api.thread_waiters import ThreadWaiters
from dues.jobs.status import jobs as resource
from dues.reads import parse_query
from dues.sync.moved import Watch
from tests.factory import Factory
from tests.jobs.conftest import Jobs
from tests.servers import wait_until

REQUEST = make_request("GET", "/v1/x", {}, "")


@pytest.fixture
def waiters(in_app: Flask) -> Iterator[ThreadWaiters]:
    waiters = ThreadWaiters(in_app, 2)
    yield waiters
    waiters.close()
    loop, held, pokes = waiters._loop, waiters._waiters, waiters._pokes
    assert loop
    assert held
    assert pokes
    for stopping in (held.stop(), pokes.stop()):
        asyncio.run_coroutine_threadsafe(stopping, loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    wait_until(lambda: not loop.is_running(), what="the loop's end")
    loop.close()


@pytest.fixture
def waiting(make: Factory, jobs: Jobs) -> Waiting:
    """For a job that stands still."""
    user = make.user()
    make.auth(user)
    token_id = make.value("select id from api_tokens where user_id = %(id)s", {"id": user.id})
    return Waiting(jobs.add(owner_id=user.id), 1, token_id, parse_query(resource, (), one=True), 20)


def test_no_more_are_held_at_once_than_there_are_places_whatever_they_wait_for(
    in_app: Flask, waiters: ThreadWaiters, waiting: Waiting, make: Factory, pool: ThreadPoolExecutor
):
    base = make.value("select pg_current_snapshot()::text")
    job = Reply(b"", waiting=waiting)
    changes = Reply(b"", poke=Poke(Watch(waiting.token_id, None, (), base), 20, no_content))
    at_once = threading.Barrier(8)

    def ask(reply: Reply) -> None:
        with in_app.app_context():
            at_once.wait(30)
            waiters.hold(REQUEST, reply)

    asked = [pool.submit(ask, reply) for reply in [job, changes] * 4]
    try:
        wait_until(lambda: sum(one.done() for one in asked) >= 6, 2, "those who have no place")
        assert [one.done() for one in asked].count(False) == 2
    finally:
        waiters.close()
        for one in asked:
            one.result()


def test_a_stream_has_its_place_until_it_ends_be_it_because_its_client_leaves(waiters: ThreadWaiters, waiting: Waiting):
    stream = waiters.hold(REQUEST, Reply(b"first", waiting=replace(waiting, streams=True, seconds=0.05)))
    assert stream
    assert stream.file
    events = iter(stream.file)
    assert [next(events), next(events)] == [b"first", COMMENT]
    # Now its thread sends, and does not wait on the loop.
    with waiters.place() as has_place, waiters.place() as has_another:
        assert (has_place, has_another) == (True, False)
    stream.file.close()
    with waiters.place() as has_place, waiters.place() as has_another:
        assert (has_place, has_another) == (True, True)
