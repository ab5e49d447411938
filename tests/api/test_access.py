"""Who may do what: every route as each kind of caller, with the status that the HTTP contract gives.

The table is written from the contract and not from the code: it is `access` of each file in tests/api/samples. A row's
target belongs to `customer`, in a store where `support`, `manager` and `owner` are the staff; `other` has a token and
nothing to do with either. `unscoped` is the owner with every scope but the row's, and `elsewhere` the owner with a
token that is bound to another of the owner's stores.
`-` stands where the contract does not say.
"""

import re
from dataclasses import dataclass, replace
from typing import Any

import pytest
import ujson
from flask import Flask
from flask.testing import FlaskClient

from dues.accounts.actor import SCOPES
from dues.ids import new_id
from tests.api.samples.declared import ALL, BODIES, FileBody, sent_with
from tests.api.world import World
from tests.factory import Factory

CALLERS = ("nobody", "other", "customer", "support", "manager", "owner", "unscoped", "elsewhere")


@dataclass(frozen=True)
class Row:
    method: str
    path: str
    scope: str
    expected: dict[str, str]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def route(self) -> tuple[str, str]:
        return self.method, self.path.partition("?")[0]


def read_table(text: str) -> list[Row]:
    words = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return [
        Row(method, path, scope, dict(zip(CALLERS, statuses, strict=True))) for method, path, scope, *statuses in words
    ]


ROWS = [row for samples in ALL.values() for row in read_table(samples.access)]


def body_of(row: Row, caller: str, world: World) -> dict[str, Any] | FileBody | None:
    body = BODIES.get(" ".join(row.route), {})
    if isinstance(body, FileBody):
        return replace(body, content=body.content.format(caller=caller))
    if callable(body):
        return dict(body(world, caller) or {})
    return {k: v.format(caller=caller) if isinstance(v, str) else v for k, v in body.items()} or None


@pytest.fixture
def world(make: Factory, app: Flask) -> World:
    return World(make, app)


def headers_of(caller: str, row: Row, world: World, make: Factory) -> dict[str, str]:
    match caller:
        case "nobody":
            return {}
        case "unscoped":
            return make.auth(world.owner, *(scope for scope in SCOPES if scope != row.scope))
        case "elsewhere":
            return make.auth(world.owner, store=world.elsewhere)
    return make.auth(getattr(world, caller))


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_access(row: Row, world: World, make: Factory, app: Flask) -> None:
    answered, told = {}, {}
    for caller in CALLERS:
        path = row.path.format_map(world.target(row.method, row.path))
        headers = headers_of(caller, row, world, make)
        if row.method == "POST":
            headers["Idempotency-Key"] = f"{caller}-1"
        body = body_of(row, caller, world)
        with app.test_client().open(path, method=row.method, headers=headers, **sent_with(body)) as answer:
            status = str(answer.status_code)
            assert int(status) < 500, f"{caller}: {answer.get_data(as_text=True)}"
            told[caller] = answer.get_data(as_text=True)[:500] if int(status) >= 400 else ""
        answered[caller] = "-" if row.expected[caller] == "-" else status
    others = {caller: told[caller] for caller in CALLERS if answered[caller] != row.expected[caller]}
    assert answered == row.expected, others


BELOW_A_STORE = [row for row in ROWS if row.path.startswith("/v1/stores/{store_id}/") and row.path.count("{") > 1]


@pytest.mark.parametrize("row", BELOW_A_STORE, ids=str)
def test_who_may_not_see_a_row_is_not_told_whether_it_is_there(
    row: Row, world: World, make: Factory, app: Flask
) -> None:
    """A row that is there and an id that was made up are refused alike, whatever is asked to be done with it."""
    client, store = app.test_client(), str(world.store.id)
    for caller in CALLERS:
        if row.expected[caller].startswith("2"):
            continue
        there = row.path.format_map(world.target(row.method, row.path))
        made_up = re.sub(r"\{store_id\}", store, row.path)
        made_up = re.sub(r"\{\w+\}", str(new_id()), made_up)
        headers = headers_of(caller, row, world, make) | {"Idempotency-Key": new_id().hex}
        seen_at = there[: there.rindex("/") if not row.path.endswith("}") else len(there)]
        if caller != "unscoped" and client.get(seen_at, headers=headers).status_code == 200:
            continue
        body = body_of(row, caller, world)
        answers = [
            client.open(path, method=row.method, headers=headers, **sent_with(body)) for path in (there, made_up)
        ]
        problems = [ujson.loads(answer.data) for answer in answers]
        refusals = [(problem["status"], problem["code"], problem["detail"]) for problem in problems]
        assert refusals[0] == refusals[1], caller
        assert refusals[0][0] in (401, 403, 404), caller


def test_a_bad_token_is_401_even_where_none_is_needed(client: FlaskClient) -> None:
    for row in ROWS:
        path = re.sub(r"\{\w+\}", str(new_id()), row.path)
        for header in ("Bearer dues_forged", "Bearer", "Basic dXNlcjpwYXNz"):
            answer = client.open(path, method=row.method, headers={"Authorization": header})
            assert (answer.status_code, answer.mimetype) == (401, "application/problem+json"), f"{row} {header}"
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("bad", ["019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20", "42", "no-such-thing"])
def test_what_is_not_there_is_404(bad: str, client: FlaskClient, make: Factory) -> None:
    """With everything else wrong too: no body, no key, an unknown parameter."""
    headers = make.auth(make.user())
    for row in ROWS:
        # Whether a store takes Stripe's hooks nobody is told who cannot sign them.
        if "{" in row.path and not row.path.startswith("/v1/gateways/"):
            path = re.sub(r"\{\w+\}", bad, row.path.partition("?")[0])
            answer = client.open(f"{path}?x=1", method=row.method, headers=headers)
            assert (answer.status_code, answer.mimetype) == (404, "application/problem+json"), str(row)
            assert b'"code":"not_found"' in answer.data, str(row)
