"""Random people on random graphs, over HTTP and through both servers with their caches on, against a plain model: every
answer is what the model says, whatever was changed just before."""

import http.client
from contextlib import closing
from typing import Any

import pytest
import ujson
from flask import Flask

from dues.reads.freshness.writer import Writer
from tests.factory import Factory
from tests.feeds.members import Members
from tests.feeds.play import Play, Send
from tests.servers import Servers
from tests.webserver import WebServer


def flask(app: Flask) -> Send:
    client = app.test_client()

    def send(method: str, path: str, body: Any, auth: dict[str, str]) -> tuple[int, Any]:
        answer = client.open(path, method=method, json=body, headers=auth)
        return answer.status_code, answer.get_json(silent=True)

    return send


def loop(web: WebServer) -> Send:
    def send(method: str, path: str, body: Any, auth: dict[str, str]) -> tuple[int, Any]:
        headers = auth | ({"Content-Type": "application/json"} if body is not None else {})
        with closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=60)) as connection:
            connection.request(method, path, ujson.dumps(body) if body is not None else None, headers)
            answer = connection.getresponse()
            raw = answer.read()
            return answer.status, ujson.loads(raw) if raw else None

    return send


def run(play: Play, deeds: int, looks: int) -> None:
    """`looks` by readers after each deed; the same reader may look at the same thing again, and get what was kept."""
    for number in range(deeds):
        deed = play.act()
        for _ in range(looks):
            wrong = play.look()
            assert not wrong, f"after deed {number}, {deed}:\n" + "\n".join(wrong)


@pytest.mark.parametrize("deeds", [50, pytest.param(120, marks=pytest.mark.wide)])
def test_every_answer_is_what_the_model_says(app: Flask, servers: Servers, make: Factory, deeds: int) -> None:
    with WebServer(servers, threads=2, RATE_LIMIT="off") as web:
        play = Play(1, make, [flask(app), loop(web)], Members(app, make).set)
        run(play, deeds, 4)
    assert play.seen["reads"] > 3 * deeds


@pytest.mark.one_server("there is no cache that could be wrong")
def test_without_touches_it_is_not(app: Flask, make: Factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writer, "touch", lambda *_: None)
    play = Play(1, make, [flask(app)], Members(app, make).set)
    with pytest.raises(AssertionError, match="found"):
        run(play, 120, 4)


@pytest.mark.large
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("seed", range(2, 12))
def test_over_many_graphs(app: Flask, servers: Servers, make: Factory, seed: int) -> None:
    with WebServer(servers, threads=2, RATE_LIMIT="off") as web:
        play = Play(seed, make, [flask(app), loop(web)], Members(app, make).set, users=4 + 3 * seed, stores=3)
        run(play, 1500, 5)
