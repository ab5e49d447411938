"""Requests made up from the OpenAPI document: whatever is sent, no answer is a fault of ours or outside its schema.

The same requests each time. For each parameter and field there are some at its bounds and beyond them, of which every
sixteenth is sent, and some at random; `--slow` sends all of the former and many more of the latter. To make them up
takes longer than to answer them, so the plain run takes every second operation, and `--wide` the others.
"""

import zlib
from collections.abc import Iterable
from typing import Any

import jsonschema
import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.generation.meta import TestPhase
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import response_schema_conformance

from api.app import MODULES
from api.openapi.document import build_document
from tests.api.world import World
from tests.factory import Factory

CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 4711,
        "generation": {"deterministic": True, "with-security-parameters": False},
        # What is well-formed may still be refused: a cursor of another list, a field of an include not asked for.
        "checks": {"positive_data_acceptance": {"enabled": False}},
    }
)


@schemathesis.serializer("text/csv", "application/x-ndjson", "application/jsonl")
def as_it_is(context: object, value: Any) -> bytes:
    """A file, which is made up as bytes."""
    return value if isinstance(value, bytes) else str(value).encode()


built = build_document(MODULES)
SPARSE = {
    "schemas": {
        name: {key: value for key, value in schema.items() if key != "required" or name.endswith(("List", "Meta"))}
        for name, schema in built["components"]["schemas"].items()
    }
}


served: dict[str, Flask] = {}


def serve(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The application of the test that runs: the document is read before there is one."""
    return served["app"](environ, start_response)


document = schemathesis.openapi.from_dict(built, config=CONFIG)
document.app = serve
OPERATIONS = {found.ok().label: found.ok() for found in document.get_all_operations() if isinstance(found, Ok)}
each_operation = pytest.mark.parametrize("operation", OPERATIONS)
health = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.filter_too_much]
quietly: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": health}


@pytest.fixture
def world(make: Factory, app: Flask) -> World:
    served["app"] = app
    return World(make, app)


@pytest.fixture
def headers(world: World, make: Factory) -> dict[str, str]:
    return make.auth(world.owner) | {"Accept-Encoding": "identity"}


def check(case: "schemathesis.Case[Any]", world: World, headers: dict[str, str]) -> None:
    # Most requests are to rows that are there.
    path = case.meta.components.get(ParameterLocation.PATH) if case.meta else None
    if path and path.mode.is_positive:
        for name, there in world.target(case.method, case.operation.path).items():
            if name in case.path_parameters and str(case.path_parameters[name])[-1:] not in "0123":
                case.path_parameters[name] = str(there)
    # An answer holds all that its schema requires unless `fields` asked for some of it.
    is_sparse = "fields" in (case.query or {})
    # OpenAPI 3.1 has no words for a stream of events, which generators take for text, and this would have each conform.
    is_stream = case.operation.path.startswith("/v1/jobs/") and case.operation.path.endswith("/events")
    excluded = [response_schema_conformance] if is_sparse or is_stream else []
    answer = case.call_and_validate(headers=headers, excluded_checks=excluded)
    declared = case.operation.definition.raw["responses"]["200"]["content"] if is_sparse else {}
    if answer.status_code == 200 and answer.content and "application/json" in declared:
        schema = {**declared["application/json"]["schema"], "components": SPARSE}
        jsonschema.Draft202012Validator(schema).validate(answer.json())


def play(operation: str, world: World, headers: dict[str, str], *, every: int, at_random: int) -> None:
    """Make requests up and send them. `document.parametrize()` would make all of them up as tests are collected, which
    takes seconds, in each process of tests."""
    sent = 0

    @settings(max_examples=at_random, **quietly)
    def send(case: "schemathesis.Case[Any]") -> None:
        nonlocal sent
        at_a_bound = case.meta and case.meta.phase.name == TestPhase.COVERAGE
        parts = case.path_parameters, case.query, case.headers, case.body
        if not at_a_bound or zlib.crc32(str(parts).encode()) % every == 0:
            sent += 1
            check(case, world, headers)

    build_operation_test(
        config=document.config,
        operation=OPERATIONS[operation],
        test_func=send,
        given_kwargs={},
        feedback=FeedbackSources(),
    )()
    assert sent >= min(at_random, 3)


@pytest.mark.parametrize(
    "operation", [pytest.param(o, marks=[pytest.mark.wide] if n % 2 else []) for n, o in enumerate(OPERATIONS)]
)
def test_requests_made_up_from_the_document(operation: str, world: World, headers: dict[str, str]):
    play(operation, world, headers, every=16, at_random=2)


@pytest.mark.slow
@each_operation
def test_many_requests_made_up_from_the_document(operation: str, world: World, headers: dict[str, str]):
    play(operation, world, headers, every=1, at_random=320)
