"""For every list that is declared: each sort, and each equality filter with the default sort, has an index that gives
the rows in their order; and what lies in a store is asked for by its store.

The planner is asked, with all ways but an index forbidden: it sorts and reads tables whole where no index serves.
"""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import types

from api.app import MODULES
from api.request import make_request
from api.routing import Route
from api.serving import plan_read
from dues.ids import new_id
from dues.postgres import db, fetch_row
from dues.reads import Equal, Resource
from dues.stores.access import access_of
from tests.api.samples.declared import ROWS
from tests.api.world import World
from tests.factory import Factory

READS = [route for module in MODULES for route in module.all if (route.lists or route.reads) and route.method == "GET"]
LISTS = [route for route in READS if route.lists]

# Sorts and filters without an index of their own, and why that is enough.
_ONES_OWN = "a person's own payments are looked through: there are as many as one person makes"
_SUBSCRIPTIONS = "a person's own subscriptions are looked through: there are as many as one person has"
_POSTS = "of a viewer's posts, which lie in several partial indexes, none of which holds all of them"
WITHOUT = {
    ("/v1/stores", "slug"): "a slug is one store's",
    (
        "/v1/stores/{store_id}/packages",
        "interval",
    ): "a store's packages are looked through: a page or two",
    ("/v1/me/payments", "amount"): _ONES_OWN,
    ("/v1/me/payments", "status"): _ONES_OWN,
    ("/v1/me/payments", "currency"): _ONES_OWN,
    ("/v1/me/payments", "user_id"): _ONES_OWN,
    ("/v1/me/payments", "package_id"): _ONES_OWN,
    ("/v1/me/payments", "paid_at"): _ONES_OWN,
    ("/v1/me/payments", "id"): _ONES_OWN,
    ("/v1/me/payments", "subscription_id"): _ONES_OWN,
    ("/v1/me/subscriptions", "status"): _SUBSCRIPTIONS,
    ("/v1/me/subscriptions", "package_id"): _SUBSCRIPTIONS,
    ("/v1/me/subscriptions", "user_id"): _SUBSCRIPTIONS,
    ("/v1/stores/{store_id}/payments/{payment_id}/refunds", "status"): "a payment's refunds are few, and found by it",
    ("/v1/jobs", "status"): "a caller's jobs of some days are looked through: an index more would cost every job",
    ("/v1/jobs", "kind"): "the same",
    ("/v1/stores/{store_id}/documents", "number"): "a number is one document's",
    ("/v1/stores/{store_id}/documents", "payment_id"): "a payment's documents are two or three, which its index finds",
    ("/v1/posts", "published_at"): _POSTS,
    ("/v1/feed", "published_at"): _POSTS,
    ("/v1/newsfeed", "published_at"): _POSTS,
    ("/v1/users/{user_id}/posts", "author_id"): "the author again",
    ("/v1/users/{user_id}/posts", "privacy"): _POSTS,
    ("/v1/stores/{store_id}/posts", "author_id"): _POSTS,
    ("/v1/stores/{store_id}/posts", "store_id"): "the store again",
    ("/v1/stores/{store_id}/posts", "privacy"): _POSTS,
}


def asked_of(resource: Resource) -> Iterator[tuple[str, str]]:
    """What a list may be asked for, by its name and as a query string."""
    for name in resource.sorts:
        for sign in ("", "-"):
            yield name, f"sort={sign}{name}"
    for name, declared in resource.filters.items():
        if isinstance(declared, Equal):
            yield name, f"{name}={value_of(declared)}"


def value_of(declared: Equal) -> str:
    if declared.choices:
        return declared.choices[0]
    column_type = declared.column.type
    if isinstance(column_type, types.Uuid):
        return str(new_id())
    return "true" if isinstance(column_type, types.Boolean) else "EUR"


class Owner:
    """The store's owner, who asks for lists."""

    def __init__(self, world: World, make: Factory) -> None:
        self._world, self._token = world, make.token(world.owner)
        self._ids: dict[str, dict[str, UUID]] = {}

    def plan(self, route: Route, text: str = "") -> Any:
        """How the route reads; None where its handler does so by itself."""
        if route.path not in self._ids:
            found = self._world.target("GET", route.path).items()
            self._ids[route.path] = {name: UUID(str(value)) for name, value in found if f"{{{name}}}" in route.path}
        ids = self._ids[route.path]
        access = access_of(self._token, ids.get("store_id"))
        target = f"{route.path.format_map(ids)}?{text}"
        return plan_read(route, ids, make_request("GET", target, {}, "127.0.0.1"), access)


@pytest.fixture
def world(app: Flask, fresh_tables: None, make: Factory) -> World:
    return World(make, app)


@pytest.fixture
def owner(world: World, make: Factory) -> Owner:
    return Owner(world, make)


def missing_indexes(owner: Owner) -> Iterator[tuple[Route, str]]:
    """The sorts and filters that no index serves, of every route whose ids there are rows for."""
    for (path, name), (route, faults) in unserved(owner).items():
        if (path, name) not in WITHOUT:
            yield route, f"an index for `{name}`, or a line in WITHOUT of {Path(__file__).name}: {faults}"


def unserved(owner: Owner) -> dict[tuple[str, str], tuple[Route, str]]:
    found: dict[tuple[str, str], tuple[Route, str]] = {}
    for route in LISTS:
        assert route.lists
        if not ROWS.keys() | {"store_id"} >= set(route.id_names):
            continue
        for name, text in asked_of(route.lists):
            plan = owner.plan(route, f"cursor=&{text}")
            # None where the handler reads by itself.
            if plan and (faults := list(faults_of(plan, route.lists, name if text.startswith(name) else ""))):
                found[route.path, name] = route, ", ".join(faults)
    return found


@pytest.mark.one_server("the plans are of one server")
def test_what_is_said_to_have_no_index_has_none(app: Flask, owner: Owner) -> None:
    """That all else has one is among what tests/api/test_complete.py asks of every route."""
    with app.app_context():
        version = fetch_row("select current_setting('server_version_num')::int / 10000", {})
        if version and version[0] < 18:
            pytest.skip("WITHOUT is as the planner of PostgreSQL 18 has it: older ones filter where it sorts")
        assert not WITHOUT.keys() - unserved(owner).keys(), "these have an index now, and need not be in WITHOUT"


def faults_of(plan: Any, resource: Resource, filtered: str) -> Iterator[str]:
    """What is wrong with how the rows of the page are found."""
    statement, values = plan.statement()
    page = page_plan(statement, values)
    kinds = {node["Node Type"] for node in page}
    if kinds & {"Sort", "Incremental Sort"}:
        yield "the rows are sorted"
    table = [node for node in page if node.get("Relation Name") == resource.table.name]
    if "Seq Scan" in {node["Node Type"] for node in table}:
        yield "the table is read whole"
    if filtered:
        declared = resource.filters[filtered]
        assert isinstance(declared, Equal)
        conditions = " ".join(node.get("Index Cond", "") for node in table)
        if not re.search(rf"\b{declared.column.name}\b", conditions):
            yield f"{declared.column.name} is not in the index that is used, but looked at row by row"


def page_plan(statement: str, values: Any) -> list[dict[str, Any]]:
    """The nodes that find the page's rows."""
    forbidden = ("enable_seqscan", "enable_sort", "enable_incremental_sort", "enable_bitmapscan")
    with db.engine.connect() as connection, closing(connection.connection.cursor()) as cursor:
        settings = "; ".join(f"set local {name} = off" for name in forbidden)
        cursor.execute(f"{settings}; explain (format json) {statement}", values)
        ((document,),) = cursor.fetchall()
    return next(list(nodes(node)) for node in nodes(document[0]["Plan"]) if node.get("Subplan Name") == "CTE page")


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def test_what_lies_in_a_store_is_asked_for_by_its_store(app: Flask, world: World, owner: Owner) -> None:
    asked = 0
    with app.app_context():
        for route in READS:
            resource = route.lists or route.reads
            assert resource
            if "{store_id}" not in route.path or "store_id" not in resource.table.c:
                continue
            plan = owner.plan(route)
            if plan is not None:
                asked += 1
                assert plan.scope["store_id"] == str(world.store.id), route.path
                assert "t.store_id = %(store_id)s" in plan.statement()[0], route.path
    assert asked > 10


@pytest.mark.one_server("the plans are of one server")
def test_a_sort_without_an_index_is_found_out(app: Flask, owner: Owner) -> None:
    with app.app_context():
        plan = owner.plan(next(route for route in LISTS if route.path.endswith("/payments")), "cursor=")
        statement, values = plan.statement()
        by_another = statement.replace("order by t.created_at", "order by t.description")
        assert by_another != statement
        assert {node["Node Type"] for node in page_plan(by_another, values)} & {"Sort", "Incremental Sort"}
        assert fetch_row("select 1", {}) == (1,)


# Tables with a `store_id` whose rows are not a store's alone.
NOT_A_STORES = {"api_tokens", "jobs", "payment_methods", "post_packages", "posts"}
# Indexes across stores that do not begin with a user, and what looks there.
ACROSS_STORES = {
    "subscriptions_due_idx": "the job that does what is due, in whichever store",
    "gateway_events_received_at_idx": "the job that forgets old news of gateways",
    "webhook_deliveries_waiting_idx": "what is due to an endpoint that is left alone, by the endpoint",
    "store_places_asked_by_key": "a directory of cells, where a caller asks for the same new store again",
    "store_places_asked_idx": "the job that forgets who asked for a store",
    "store_places_unmade_idx": "the job that looks after stores which were asked for, and may not have been made",
    "packages_id_key": "a client may choose the id of a package, which is to be no other's",
}
_INDEXES = """
    select c.relname::text, i.indexrelid::regclass::text, i.indisprimary, (
        select a.attname::text from pg_attribute a where a.attrelid = i.indrelid and a.attnum = i.indkey[0])
    from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'public' and not c.relispartition and exists (
        select from pg_attribute s where s.attrelid = c.oid and s.attname = 'store_id')
"""


def test_what_lies_in_a_store_is_stored_by_store(app: Flask) -> None:
    """Keys and indexes begin with the store, so that one store's rows lie together; or with the user, for what people
    see of themselves."""
    with app.app_context(), db.engine.connect() as connection, closing(connection.connection.cursor()) as cursor:
        cursor.execute(_INDEXES)
        indexes = cursor.fetchall()
    assert {table for table, _, is_key, first in indexes if is_key and first != "store_id"} == NOT_A_STORES
    across = {
        index
        for table, index, is_key, first in indexes
        if table not in NOT_A_STORES and first not in ("store_id", "user_id")
    }
    assert across == ACROSS_STORES.keys(), "begin the index with store_id, or say in ACROSS_STORES what looks there"
