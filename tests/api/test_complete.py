"""All that a new route needs beside its declaration, in one list, so that nobody has to find it out one by one."""

import re
from collections.abc import Iterator

import jsonschema
import msgspec
import pytest
from flask import Flask

from api.app import MODULES
from api.openapi.document import build_document
from api.routing import Route, Routes
from dues.errors import Problem
from dues.reads import Resource, tags
from dues.validation import validate
from tests.api.samples.declared import ALL, BODIES, READS, ROWS
from tests.api.test_access import ROWS as ACCESS
from tests.api.world import World
from tests.factory import Factory
from tests.reads.test_indexes import Owner, missing_indexes

FILE = "tests/api/samples/{}.py"
ROUTES = [route for module in MODULES for route in module.all]
# The tags that dues/reads/tags.py explains, with `*` for an id.
EXPLAINED = {
    re.sub(r"\b[A-Z]\b", "*", word) for word in re.findall(r"(?:^|  )([a-z]+(?::\w+)*)(?=  )", tags.__doc__ or "", re.M)
}


class _Asked(dict[str, str]):
    """A scope with whatever is asked for."""

    def __missing__(self, name: str) -> str:
        return "*"

    def get(self, name: str, default: object = None) -> str:
        return self[name]


def tags_of(resource: Resource) -> set[str]:
    return set(resource.tags(_Asked()))


def lacking(module: Routes, route: Route) -> Iterator[str]:
    """What tests need to know of a route."""
    file = FILE.format(module.name)
    if (route.method, route.path) not in {row.route for row in ACCESS}:
        yield f"{file}: a line of `access`: who may call it"
    for name in route.id_names:
        if name != "store_id" and name not in ROWS:
            yield f"{file}: `rows`, something that makes a row for {{{name}}}"
    body = BODIES.get(str(route))
    if body is None and (route.body or route.bearer_body) and not route.optional_body:
        yield f"{file}: `bodies`, one that nothing is wrong with"
    elif body is not None and not callable(body) and (fault := fault_of(body, route)):
        yield f"{file}: `bodies`: {fault}"
    resource = route.lists or route.reads
    if resource and tags_of(resource) and route.path not in {path.partition("?")[0] for path in READS}:
        yield f"{file}: `reads`, since its answers are cached under {sorted(tags_of(resource))}"
    if resource and (unknown := sorted(tags_of(resource) - EXPLAINED)):
        yield f"dues/reads/tags.py: what {unknown} stand for"


def fault_of(body: object, route: Route) -> str:
    """Of a body that is sent as it stands. Its texts name the caller."""
    for struct in route.bodies:
        try:
            validate(msgspec.json.decode(msgspec.json.encode(body).replace(b"{caller}", b"owner")), struct)
        except Problem as problem:
            return problem.detail
    return ""


def lacking_examples() -> Iterator[str]:
    """Examples that are not valid: a field has a pattern or bounds that no made-up value meets."""
    document = build_document(MODULES)
    shown = [
        (name, schema, example)
        for name, schema in document["components"]["schemas"].items()
        for example in schema.get("examples", ())
    ]
    shown += [
        (f"{method.upper()} {path}", content["schema"], example["value"])
        for path, item in document["paths"].items()
        for method, operation in item.items()
        for content in operation.get("requestBody", {}).get("content", {}).values()
        for example in content["examples"].values()
    ]
    for name, schema, example in shown:
        whole = {**schema, "components": document["components"]}
        for error in jsonschema.Draft202012Validator(whole).iter_errors(example):
            yield f"{name}: Routes(examples=…) for `{error.json_path[2:]}`: {error.message}"


@pytest.fixture
def owner(app: Flask, fresh_tables: None, make: Factory) -> Owner:
    return Owner(World(make, app), make)


def test_every_route_has_all_that_belongs_to_it(app: Flask, owner: Owner) -> None:
    found = [f"tests/api/samples: a file {module.name}.py" for module in MODULES if module.name not in ALL]
    found += [f"{route}: {lack}" for module in MODULES for route in module.all for lack in lacking(module, route)]
    found += lacking_examples()
    with app.app_context():
        found += [f"{route}: {lack}" for route, lack in missing_indexes(owner)]
    assert not found, "\n".join(["these are missing:", *found])


def test_nothing_is_said_of_routes_that_are_no_more() -> None:
    declared = {str(route) for route in ROUTES}
    assert {" ".join(row.route) for row in ACCESS} <= declared
    assert BODIES.keys() <= declared
    assert {path.partition("?")[0] for path in READS} <= {route.path for route in ROUTES}
    assert ROWS.keys() <= {name for route in ROUTES for name in route.id_names} - {"store_id"}


def test_tags_are_found_where_they_are_explained() -> None:
    assert {"stores", "social", "user:*", "store:*:payments", "user:*:tokens"} <= EXPLAINED
