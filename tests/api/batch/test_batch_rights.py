"""Operations of a batch have the rights that each has alone."""

import re
from types import SimpleNamespace as Made

import pytest
import ujson
from flask import Flask

from api.routes.batch import MOST_OPERATIONS
from dues.ids import new_id
from tests.api.batch.conftest import Post, owner_of
from tests.api.test_access import ROWS, Row, body_of, headers_of
from tests.api.world import World
from tests.factory import Factory


def test_rights_that_an_atomic_batch_takes_away_are_gone_at_once(post: Post, store: Made, make: Factory) -> None:
    """An owner who makes somebody else the owner and leaves can do no more."""
    owner, heir = owner_of(make, store), make.user()
    staff = f"/v1/stores/{store.id}/staff"
    answered, problem = post(
        {"id": "a", "method": "PUT", "path": f"{staff}/{heir.id}", "body": {"role": "owner"}},
        {"id": "b", "method": "DELETE", "path": f"{staff}/{owner.id}"},
        {"id": "c", "method": "PATCH", "path": f"/v1/stores/{store.id}", "body": {"name": "Mine"}},
        atomic=True,
    )
    assert (answered, problem.get("errors", [problem])[0].get("pointer")) == (403, "#/operations/2")
    assert make.value("select count(*) from store_staff where store_id = %(id)s", {"id": store.id}) == 1


@pytest.mark.parametrize(
    "callers",
    [
        ("nobody", "support", "owner"),
        pytest.param(("other", "customer", "unscoped"), marks=pytest.mark.wide),
    ],
    ids=", ".join,
)
def test_each_operation_has_the_rights_that_it_has_alone(
    world: World, make: Factory, app: Flask, callers: tuple[str, ...]
) -> None:
    """The whole table of access, in batches."""
    for caller in callers:
        rows = [row for row in ROWS if row.expected[caller] not in ("-", "207") and is_composable(row)]
        # A token lacks one scope at a time.
        rows = [row for row in rows if caller != "unscoped" or row.scope == "catalog:write"]
        # One customer has one membership of a store at a time, and a store whose clock moves takes nothing.
        lonely = [row for row in rows if "subscription" in row.path or "clock" in row.path]
        for together in ([row for row in rows if row not in lonely], *([row] for row in lonely)):
            answered = answers_of(together, caller, world, make, app)
            assert answered == [f"{row} {row.expected[caller]}" for row in together], caller


def answers_of(rows: list[Row], caller: str, world: World, make: Factory, app: Flask) -> list[str]:
    make.rows("update subscriptions set status = 'canceled', ended_at = now() where status <> 'canceled'")
    make.rows("update store_clocks set advancing_to = null")
    return [
        answer
        for first in range(0, len(rows), MOST_OPERATIONS)
        for answer in answers_of_one(rows[first : first + MOST_OPERATIONS], caller, world, make, app)
    ]


def answers_of_one(rows: list[Row], caller: str, world: World, make: Factory, app: Flask) -> list[str]:
    operations = []
    for i, row in enumerate(rows):
        path = row.path.format_map(world.target(row.method, row.path))
        body = body_of(row, caller, world)
        operations.append({"id": f"o{i}", "method": row.method, "path": path} | ({"body": body} if body else {}))
    headers = headers_of(caller, rows[0], world, make) | {"Idempotency-Key": new_id().hex}
    answer = app.test_client().post("/v1/batch", json={"operations": operations}, headers=headers)
    results = ujson.loads(answer.data)["results"]
    return [f"{row} {result['status']}" for row, result in zip(rows, results, strict=True)]


def is_composable(row: Row) -> bool:
    """Not files, events, and what is limited by address."""
    begins = re.match(r"/v1/(users|tokens|email-verifications|password-resets)", row.path) and row.method == "POST"
    if row.path == "/v1/sync" or row.route == ("GET", "/v1/stores/{store_id}/logo"):
        return False
    # With a gateway of its own the store takes other payments than those of the table, and whoever tries a mailing has
    # verified an address.
    if "/gateway" in row.path or "/payment-setups" in row.path or row.path.endswith("/mailing-test"):
        return False
    # Rows that were made for other paths have filled the store with endpoints.
    is_full = row.route == ("POST", "/v1/stores/{store_id}/webhook-endpoints")
    takes_file = row.route == ("POST", "/v1/stores/{store_id}/imports")
    return not begins and not is_full and not takes_file and not row.path.endswith(("/file", "/events", "/receipt"))


@pytest.fixture
def world(make: Factory, app: Flask) -> World:
    return World(make, app)
