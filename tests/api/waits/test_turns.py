"""Whoever was held and is told something has its turn at the threads: those who have a slot do not wait behind it."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from api import pokes
from api.job_waiters import JobWaiters
from api.reply import Poke, Reply, Waiting, json_reply
from api.request import make_request
from api.routing import Priority
from api.server import admission
from api.server.admission import AdmissionQueue
from api.server.exchange import Exchange
from api.server.long_poll import LongPolls
from api.server.thread_pool import ThreadPool
from dues.ids import new_id
from dues.jobs.status import jobs as resource
from dues.reads import parse_query
from dues.sync.moved import Watch

WATCH = Watch(new_id(), None, (), "1:1:")


class Desk:
    """A server with one thread, which somebody else has the slot for."""

    def __init__(self, app: Flask) -> None:
        wire: Any = SimpleNamespace()
        self.exchange = Exchange(wire, make_request("GET", "/v1/x", {}, ""))
        self.threads, self.slots = ThreadPool(app, 1), AdmissionQueue(1)
        self.polls = LongPolls(app, self.threads, self.slots, 10)
        self.reads = 0

    def read(self) -> Reply:
        self.reads += 1
        return json_reply({"new": True})


@pytest.fixture
def serve(
    in_app: Flask, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Desk], Coroutine[Any, Any, None]]], None]:
    monkeypatch.setattr(admission, "_PATIENCE_S", dict.fromkeys(Priority, 0.01))
    monkeypatch.setattr(pokes, "_ASK_EVERY_S", 0.01)

    async def run(scenario: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
        desk = Desk(in_app)
        await desk.slots.take(Priority.WRITE)
        try:
            await asyncio.wait_for(scenario(desk), 10)
        finally:
            await desk.polls.stop()
            desk.threads.close()

    return lambda scenario: asyncio.run(run(scenario))


def test_one_for_whom_there_is_something_new_is_held_on_until_there_is_a_slot(
    serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(pokes, "find_moved", lambda watches: set(range(len(watches))))

    async def scenario(desk: Desk) -> None:
        first = Reply(b"", poke=Poke(WATCH, 25, desk.read))
        told = asyncio.create_task(desk.polls.poke(desk.exchange, first))
        while desk.slots.shed < 2 and not told.done():
            await asyncio.sleep(0.001)
        assert desk.reads == 0
        desk.slots.pass_on()
        reply = await told
        assert (reply.body, reply.headers["Preference-Applied"]) == (b'{"new":true}', "wait=25")
        assert (desk.reads, desk.slots.waiting) == (1, 0)

    serve(scenario)


def test_one_for_whom_there_is_nothing_new_needs_no_thread(serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pokes, "find_moved", lambda watches: set())

    async def scenario(desk: Desk) -> None:
        done = threading.Event()
        desk.threads.call(done.wait, 30)
        try:
            first = Reply(b"first", poke=Poke(WATCH, 0, desk.read))
            reply = await asyncio.wait_for(desk.polls.poke(desk.exchange, first), 5)
        finally:
            done.set()
        assert (reply.body, reply.headers) == (b"first", {"Preference-Applied": "wait=0"})

    serve(scenario)


@pytest.mark.parametrize("has_slot", [True, False])
def test_what_was_waited_for_is_read_where_there_is_a_slot_and_else_found_by_the_first_reply(
    serve: Callable[..., None], monkeypatch: pytest.MonkeyPatch, has_slot: bool
):
    async def wait(self: JobWaiters, waiting: Waiting, gone: object) -> object:
        return SimpleNamespace(done=True)

    monkeypatch.setattr(JobWaiters, "wait", wait)

    async def scenario(desk: Desk) -> None:
        if has_slot:
            desk.slots.pass_on()
        waiting = Waiting(new_id(), 0, new_id(), parse_query(resource, (), one=True), 20, desk.read)
        first = Reply(b"first", 202, {"Location": "/v1/jobs/1"}, waiting=waiting)
        reply = await desk.polls.hold(desk.exchange, first)
        assert reply
        assert reply.waiting is None
        if has_slot:
            assert (reply.body, desk.reads) == (b'{"new":true}', 1)
        else:
            assert (reply.status, reply.body, reply.headers["Location"]) == (202, b"first", "/v1/jobs/1")
            assert desk.reads == 0

    serve(scenario)
