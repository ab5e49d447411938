"""Server-sent events of a job."""

import asyncio
import contextlib
import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

from flask import Flask

from api.job_waiters import ClientGone
from api.reply import Reply, Waiting
from api.request import make_request
from api.server.admission import AdmissionQueue
from api.server.exchange import Exchange
from api.server.long_poll import LongPolls
from api.server.thread_pool import ThreadPool
from dues.ids import new_id
from dues.jobs import Run
from dues.jobs.status import jobs as resource
from dues.reads import parse_query
from tests.api.waits.conftest import Caller, Hall

Event = dict[str, str]


class Stream:
    """What a client of events receives."""

    def __init__(self, caller: Caller, job_id: UUID, **headers: str) -> None:
        self.connection = caller.open("GET", f"/v1/jobs/{job_id}/events", **headers)
        self.answer = self.connection.getresponse()
        self.events = read_events(self.answer)

    def next(self) -> tuple[str, dict[str, Any]]:
        """The next event's id and document."""
        event = next(self.events)
        assert event["event"] == "status"
        return event["id"], json.loads(event["data"])

    def rest(self) -> list[Event]:
        return list(self.events)

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def read_events(answer: http.client.HTTPResponse) -> Iterator[Event]:
    event: Event = {}
    while line := answer.readline().decode():
        if line == "\n" and event:
            yield event
            event = {}
        elif not line.startswith((":", "\n")):
            name, _, value = line.rstrip("\n").partition(": ")
            event[name] = value


def test_a_job_is_followed_to_its_end(hall: Hall):
    job_id = hall.job()
    with Stream(hall.me, job_id, Accept_Encoding="gzip, br, zstd") as stream:
        assert stream.answer.status == 200
        headers = {name.lower(): value for name, value in stream.answer.getheaders()}
        assert headers["content-type"].startswith("text/event-stream")
        assert (headers["cache-control"], headers["x-accel-buffering"]) == ("no-store", "no")
        assert not {"content-encoding", "content-length"} & headers.keys()
        assert stream.next() == ("1", hall.me.get(f"/v1/jobs/{job_id}").json)
        run = Run(*hall.jobs.claimed(job_id))
        assert stream.next()[1]["status"] == "running"
        run.progress(1, 4, "rows")
        number, document = stream.next()
        assert (number, document["progress"]["percent"]) == ("3", 25.0)
        run.complete({"href": "/v1/x", "type": "text/csv"})
        number, document = stream.next()
        assert (number, document["done"], document["result"]["href"]) == ("4", True, "/v1/x")
        assert stream.rest() == []
    # A browser comes back by itself, until it is told not to.
    assert hall.me.get(f"/v1/jobs/{job_id}/events", Last_Event_ID="4").status == 204


def test_a_client_that_comes_back_gets_what_is_newer(hall: Hall):
    job_id = hall.job()
    with Stream(hall.me, job_id) as stream:
        assert stream.next()[0] == "1"
    run = Run(*hall.jobs.claimed(job_id))
    with Stream(hall.me, job_id, Last_Event_ID="1") as stream:
        assert stream.next()[1]["status"] == "running"
    with Stream(hall.me, job_id, Last_Event_ID="2") as stream:
        hall.wait_for(1)
        run.complete(None)
        assert stream.next()[0] == "3"
    for seen in ("2", "forged", ""):
        with Stream(hall.me, job_id, Last_Event_ID=seen) as stream:
            assert [event["id"] for event in stream.rest()] == ["3"]


def test_only_the_fields_asked_for(hall: Hall):
    job_id = hall.job()
    connection = hall.me.open("GET", f"/v1/jobs/{job_id}/events?fields=status")
    events = read_events(connection.getresponse())
    assert next(events)["data"] == '{"status":"queued"}'
    hall.jobs.claimed(job_id)
    assert next(events)["data"] == '{"status":"running"}'
    connection.close()


def test_head_tells_what_get_would(hall: Hall):
    answer = hall.me.ask("HEAD", f"/v1/jobs/{hall.job()}/events")
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-type"].startswith("text/event-stream")


def test_others_cannot_follow_and_who_may_no_longer_is_left(hall: Hall):
    job_id, other = hall.job(), hall.caller()
    assert other.get(f"/v1/jobs/{job_id}/events").status == 404
    assert other.get(f"/v1/jobs/{new_id()}/events").status == 404
    assert other.get(f"/v1/jobs/{job_id}/events?colour=red").status == 404
    with Stream(hall.me, job_id) as stream:
        stream.next()
        hall.wait_for(1)
        (token,) = hall.me.get("/v1/tokens").json["data"]
        assert hall.me.ask("DELETE", f"/v1/tokens/{token['id']}").status == 204
        hall.change(job_id)
        assert stream.rest() == []


def test_a_silent_stream_shows_signs_of_life(in_app: Flask, hall: Hall):
    job_id, user = hall.job(), hall.me.user
    token_id = hall.make.value("select id from api_tokens where user_id = %(id)s", {"id": user.id})
    waiting = Waiting(job_id, 1, token_id, parse_query(resource, (), one=True), 1, streams=True)
    wire = _Wire()

    async def follow() -> None:
        polls = LongPolls(in_app, ThreadPool(in_app, 1), AdmissionQueue(1), 10)
        exchange = Exchange(wire, make_request("GET", f"/v1/jobs/{job_id}/events", {}, ""))
        wire.is_enough = exchange.leave
        with contextlib.suppress(ClientGone):
            await polls.stream(exchange, Reply(b"", waiting=waiting), b"")
        await polls.stop()

    asyncio.run(asyncio.wait_for(follow(), 20))
    assert wire.sent == [b":\n\n", b":\n\n"]


class _Wire:
    """Takes two parts, and leaves."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.is_enough: Callable[[], None]

    def begin(self, status: int, fields: bytes, *, has_length: bool) -> None:
        assert not has_length

    def part(self, data: bytes) -> None:
        self.sent.append(data)

    async def drain(self) -> None:
        if len(self.sent) == 2:
            self.is_enough()

    def finish(self) -> None: ...

    def answer(self, status: int, fields: bytes, content: bytes) -> None: ...

    def abort(self) -> None: ...

    async def read_part(self) -> bytes:
        return b""

    async def read_body(self) -> bytes:
        return b""
