"""One URL, many callers, a server that keeps answers: nobody is ever given another's. The plain run asks for every
second of the reads, `--wide` for all of them, more often."""

import http.client
import random
import re
from contextlib import closing

import pytest
from flask import Flask

from tests.api.samples.declared import READS
from tests.api.world import World
from tests.factory import Factory
from tests.servers import Servers
from tests.webserver import WebServer

Auths = dict[str, dict[str, str]]
Answer = tuple[int, str | None, bytes]


@pytest.fixture
def ids(app: Flask, make: Factory) -> tuple[World, dict[str, object]]:
    world = World(make, app)
    ids: dict[str, object] = {}
    for path in READS:
        ids |= world.target("GET", path)
    return world, ids | {"user_id": world.customer.id}


def auths_of(make: Factory, world: World) -> Auths:
    """Every kind of caller; of the owner also tokens that may do less."""
    people = ("other", "customer", "support", "manager", "owner")
    return {
        "nobody": {},
        **{name: make.auth(getattr(world, name)) for name in people},
        "owner, account only": make.auth(world.owner, scopes=["account:read"]),
        "owner, bound to another store": make.auth(world.owner, store_id=world.elsewhere.id),
        "a token that is none": {"Authorization": "Bearer dues_" + "x" * 43},
    }


def told(status: int, etag: str | None, body: bytes) -> Answer:
    """What matters of an answer: a refusal also holds its request's id."""
    return status, etag, re.sub(rb'"request_id":"[^"]+"', b"", body)


@pytest.mark.parametrize(("every", "rounds"), [(2, 4), pytest.param(1, 6, marks=pytest.mark.wide)])
def test_whoever_asks_after_whomever_gets_his_own_answer(
    app: Flask, servers: Servers, make: Factory, ids: tuple[World, dict[str, object]], every: int, rounds: int
):
    world, named = ids
    auths, paths = auths_of(make, world), [path.format_map(named) for path in READS[::every]]
    expected: dict[tuple[str, str], Answer] = {}
    for name, auth in auths.items():
        for path in paths:
            servers.forget()
            fresh = app.test_client().get(path, headers=auth)
            expected[name, path] = told(fresh.status_code, fresh.headers.get("ETag"), fresh.data)

    visits = list(expected) * rounds
    random.Random(4).shuffle(visits)
    hits = 0
    with (
        WebServer(servers, threads=3, RATE_LIMIT="off") as web,
        closing(http.client.HTTPConnection("127.0.0.1", web.port, timeout=20)) as connection,
    ):
        for name, path in visits:
            connection.request("GET", path, headers=auths[name])
            answer = connection.getresponse()
            found = told(answer.status, answer.headers["ETag"], answer.read())
            assert found == expected[name, path], f"{name} GET {path}"
            hits += "desc=hit" in (answer.headers["Server-Timing"] or "")
    successes = sum(status == 200 for status, _, _ in expected.values())
    assert hits > successes * rounds / 2, "most of them came from what was kept"
