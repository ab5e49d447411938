"""How a request ends that is not simply answered: nothing is left of it, and nobody waits for what will not come."""

import http.client
import json
import logging
import time
from collections.abc import Iterator

import pytest
from flask import Flask

from api.reply import Reply
from api.server import connections as connections_module
from api.server import protocol
from api.server.application import Application
from api.server.exchange import Exchange
from api.server.protocol import Connection
from dues.errors import Problem
from tests.api.server.loop_server import LoopServer
from tests.api.server.teller import Client, Teller
from tests.servers import wait_until

LATE = b"POST /late HTTP/1.1\r\nHost: h\r\n"


@pytest.fixture
def teller() -> Iterator[Teller]:
    with Teller() as teller:
        yield teller


def only(teller: Teller) -> Connection:
    (connection,) = teller.connections._open
    assert isinstance(connection, Connection)
    return connection


def test_nobody_waits_for_the_body_of_a_client_that_has_left(teller: Teller):
    client = Client(teller)
    client.send(LATE + b"Content-Length: 10\r\n\r\n")
    wait_until(lambda: teller.seen)
    client.leave()
    wait_until(lambda: not teller.connections._open)
    assert teller.tasks
    teller.late.set()
    wait_until(lambda: not teller.tasks, what="the end of what nobody waits for")


def test_nobody_waits_for_a_body_that_was_refused(teller: Teller):
    with Client(teller) as client:
        client.send(LATE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n")
        ((status, problem),) = client.answers(1)
        assert (status, problem["code"]) == (400, "malformed_request")
        assert teller.tasks
        teller.late.set()
        wait_until(lambda: not teller.tasks, what="the end of what nobody waits for")
        assert client.rest() == b""


def test_a_body_behind_a_slow_request_is_read_when_its_turn_comes(teller: Teller):
    size = 90_000
    with Client(teller) as client:
        client.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n")
        client.send(b"POST /v1/x HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size + b"a" * size)
        wait_until(lambda: teller.seen and not only(teller)._is_reading, what="more than is read ahead")
        teller.late.set()
        assert [(status, told["size"]) for status, told in client.answers(2)] == [(200, 0), (200, size)]


def test_what_a_client_has_asked_for_is_answered_though_it_sends_no_more(teller: Teller):
    with Client(teller) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n" * 6)
        wait_until(lambda: teller.seen and only(teller)._drained, what="a client that takes nothing")
        client.end()
        assert len(client.answers(6)) == 6
        assert client.is_closed()


def test_half_a_body_behind_another_request_is_refused_at_once(teller: Teller):
    with Client(teller) as client:
        client.send(b"GET /late HTTP/1.1\r\nHost: h\r\n\r\n" + LATE + b"Content-Length: 10\r\n\r\nabc")
        wait_until(lambda: teller.seen)
        client.end()
        time.sleep(0.1)
        teller.late.set()
        assert [status for status, _ in client.answers(2)] == [200, 400]
        wait_until(lambda: not teller.tasks)


def test_whoever_may_have_left_is_not_held(teller: Teller):
    """A client that has closed its side is told at once what it would wait for: it may not be there any more."""
    with Client(teller) as client:
        client.send(b"GET /wait HTTP/1.1\r\nHost: h\r\n\r\n" * 3)
        client.end()
        assert [status for status, _ in client.answers(3)] == [200] * 3


def test_a_client_that_takes_nothing_is_not_said_to_send_nothing(teller: Teller, monkeypatch: pytest.MonkeyPatch):
    refused: list[Problem] = []
    monkeypatch.setattr(protocol, "SEND_S", 0.3)
    monkeypatch.setattr(Connection, "_refuse", lambda _, problem: refused.append(problem))
    with Client(teller) as client:
        client.send(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n" * 6)
        wait_until(lambda: teller.seen and not teller.connections._open, what="its end")
    assert refused == []


@pytest.mark.parametrize("head", [b"GET /raises HTTP/1.1\r\n", b"POST /raises HTTP/1.1\r\nContent-Length: 200000\r\n"])
def test_where_serving_cannot_even_begin_its_client_is_told(teller: Teller, head: bytes):
    with Client(teller) as client:
        client.send(head + b"Host: h\r\n\r\n")
        ((status, problem),) = client.answers(1)
        assert (status, problem["code"]) == (500, "internal_error")
        assert "secret" not in str(problem)
        assert client.is_closed()


def test_an_answer_that_fails_midway_is_cut_off(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    async def break_off(self: Application, exchange: Exchange, **_: object) -> None:
        exchange.begin(Reply(None, 200, {"Content-Length": "1000"}), b"")
        await exchange.part(b"a" * 100)
        raise OSError("the disk is gone")

    monkeypatch.setattr(Application, "_serve", break_off)
    cut_off = (http.client.IncompleteRead, ConnectionError)
    with LoopServer(app) as server, caplog.at_level(logging.ERROR), pytest.raises(cut_off):
        server.ask("GET", "/v1/stores")
    assert ["the disk is gone" in str(record.exc_info) for record in caplog.records] == [True]


def test_http_1_0_is_sent_no_chunks(teller: Teller):
    """RFC 9112, 6.1."""
    with Client(teller) as old, Client(teller) as new:
        old.send(b"GET /parts HTTP/1.0\r\n\r\n")
        head, _, body = old.rest().partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head
        assert b"connection: close" in head
        assert body == b"ab"
        new.send(b"GET /parts HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        head, _, body = new.rest().partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert body == b"2\r\nab\r\n0\r\n\r\n"


def test_a_refusal_of_head_has_no_content(monkeypatch: pytest.MonkeyPatch):
    """RFC 9110, 9.3.2."""
    monkeypatch.setattr(connections_module, "_RESERVE", 2)
    with Teller(most=1) as teller, Client(teller), Client(teller) as second:
        second.send(b"HEAD /v1/x HTTP/1.1\r\nHost: h\r\n\r\n")
        head, _, content = second.rest().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 503")
        assert content == b""


def test_the_clients_of_a_refusal_read_it_whole(teller: Teller):
    with Client(teller) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\nX A: 1\r\n\r\n")
        head, _, content = client.rest().partition(b"\r\n\r\n")
        assert b"connection: close" in head
        assert b"x-request-id: " + json.loads(content)["request_id"].encode() in head
