"""The OpenAPI document: valid, complete, and true of the routes that it describes."""

import re

import jsonschema
import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import MODULES
from api.openapi.document import build_document
from api.openapi.examples import ID
from api.openapi.parts import PROBLEMS
from dues.accounts.actor import SCOPES
from tests.api.world import World
from tests.factory import Factory

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def world(make: Factory, app: Flask) -> World:
    return World(make, app)


@pytest.fixture(scope="module")
def document():
    return build_document(MODULES)


@pytest.fixture(scope="module")
def operations(document):
    return {
        (method.upper(), path): operation
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    }


def test_the_document_is_valid(document):
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_every_route_is_in_it_and_nothing_else(app: Flask, operations):
    served = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/v1/")
        for method in rule.methods or ()
        if method.lower() in METHODS
    }
    assert set(operations) == served


def test_every_operation_has_a_name_of_its_own_and_a_summary(operations):
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for operation in operations.values())


def test_every_tag_is_explained(document, operations):
    explained = {tag["name"]: tag["description"] for tag in document["tags"]}
    assert all(explained.values())
    used = {tag for operation in operations.values() for tag in operation["tags"]}
    told = {tag for item in document["webhooks"].values() for tag in item["post"]["tags"]}
    assert used | told == set(explained)
    # Generators make a class of each tag, and one of these two would overwrite the other.
    assert not used & told


def test_what_excludes_one_another_has_no_default(document):
    for name in ("page", "per_page", "total", "cursor", "limit"):
        assert "default" not in document["components"]["parameters"][name]["schema"]


def test_what_needs_no_token_has_no_lock(operations):
    without = {where for where, operation in operations.items() if operation["security"] == []}
    assert without == {
        ("POST", "/v1/users"),
        ("POST", "/v1/tokens"),
        ("POST", "/v1/email-verifications/confirmations"),
        ("POST", "/v1/password-resets"),
        ("POST", "/v1/password-resets/confirmations"),
        ("POST", "/v1/unsubscribe"),
        ("POST", "/v1/mail-events"),
        ("POST", "/v1/gateways/stripe/{stripe_store_id}"),
    }
    assert {} in operations["GET", "/v1/stores"]["security"]


def test_whole_answers_hold_all_that_is_named(document):
    schemas = document["components"]["schemas"]
    payment = schemas["Payment"]
    assert set(payment["required"]) == set(payment["properties"]) - {"user", "package", "refunds"}
    assert "token" in schemas["IssuedToken"]["required"]


def test_files_are_bytes_and_events_are_text(operations):
    files = 0
    for where, operation in operations.items():
        for answer in operation["responses"].values():
            content = answer.get("content", {})
            if content.keys() - {"application/json", "application/problem+json", "text/event-stream"}:
                files += 1
                assert next(iter(content)) == "application/octet-stream", where
                for media_type in content.keys() - {"application/json"}:
                    assert content[media_type]["schema"] == {"type": "string", "format": "binary"}, where
    assert files >= 4
    events = operations["GET", "/v1/jobs/{job_id}/events"]["responses"]["200"]["content"]["text/event-stream"]
    assert events["schema"] == {"type": "string"}


def test_every_operation_has_an_example_of_what_it_takes_and_answers(document, operations):
    schemas = document["components"]["schemas"]
    for where, operation in operations.items():
        for status, answer in operation["responses"].items():
            content = answer.get("content", {}).get("application/json")
            if content and status < "300" and content:
                for either in content["schema"].get("anyOf", [content["schema"]]):
                    name = either["$ref"].rpartition("/")[2]
                    assert schemas[name]["examples"], f"{where}: {name}"
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert content["examples"], where


# Their codes were never mailed, nobody has signed them, or the store has no gateway of its own.
MADE_UP = {
    ("POST", "/v1/email-verifications/confirmations"),
    ("POST", "/v1/password-resets/confirmations"),
    ("POST", "/v1/mail-events"),
    ("POST", "/v1/stores/{store_id}/payment-setups"),
}


def test_the_first_example_of_each_body_is_accepted(app: Flask, operations, world: World, make: Factory):
    """As it stands, by the owner of a store; nothing but ids in paths is filled in."""
    owner = make.user(email="ada@example.com", password="a long enough passphrase")
    make.staff(world.store, owner, role="owner")
    # What bodies name by an id is there.
    make.package(world.store, id=ID)
    headers = make.auth(owner)
    # While a store's clock moves, nothing else can be done there.
    for (method, path), operation in sorted(operations.items(), key=lambda item: item[0][1].endswith("/clock")):
        if "requestBody" not in operation or (method, path) in MADE_UP:
            continue
        media_type, content = next(iter(operation["requestBody"]["content"].items()))
        body = next(iter(content["examples"].values()))["value"]
        if path.startswith(("/v1/me", "/v1/posts")) or path.endswith("/confirmations"):
            auth = make.auth(world.customer)
        else:
            auth = headers if operation["security"] else {}
        if path == "/v1/users":
            make.rows("update users set email_normal = 'old@example.com' where id = %(id)s", {"id": owner.id})
        where = path.format_map(world.target(method, path))
        key = {"Idempotency-Key": f"{method} {path}".replace(" ", "-")}
        sent = {"json": body} if media_type == "application/json" else {"data": body, "content_type": media_type}
        needed = {
            p["name"]: p["schema"]["enum"][0]
            for p in operation["parameters"]
            if p.get("in") == "query" and p.get("required")
        }
        answer = app.test_client().open(where, method=method, headers=auth | key, query_string=needed, **sent)
        assert answer.status_code < 300, f"{method} {path}: {answer.text}"


def test_scopes_are_those_that_tokens_have(operations):
    named = {
        scope for operation in operations.values() for way in operation["security"] for scope in way.get("bearer", ())
    }
    assert named <= set(SCOPES)


def test_every_operation_says_how_it_succeeds_and_how_it_refuses(operations):
    for (method, path), operation in operations.items():
        statuses = {int(status) for status in operation["responses"]}
        assert any(status < 300 for status in statuses), f"{method} {path}"
        expected = {400, 401, 429, 503}
        expected |= {404} if "{" in path else set()
        expected |= {403} if operation["security"] and {} not in operation["security"] else set()
        expected |= {409, 413, 415} if method != "GET" else set()
        expected |= {422} if "requestBody" in operation else set()
        assert expected <= statuses, f"{method} {path}"


def test_refusals_are_problem_details(document):
    answers = document["components"]["responses"]
    assert set(answers) == {f"Problem{status}" for status in PROBLEMS}
    for answer in answers.values():
        assert list(answer["content"]) == ["application/problem+json"]


def test_lists_take_both_forms_of_page_and_all_their_filters(operations):
    parameters = operations["GET", "/v1/stores/{store_id}/packages"]["parameters"]
    names = {parameter.get("name") or parameter["$ref"].rpartition("/")[2] for parameter in parameters}
    assert {"page", "per_page", "total", "cursor", "limit", "fields", "sort", "if_none_match"} <= names
    assert {"interval", "archived", "amount", "amount[gt]", "amount[gte]", "amount[lt]", "amount[lte]"} <= names


def test_what_a_filter_may_be_is_listed(operations):
    parameters = {p.get("name"): p for p in operations["GET", "/v1/stores/{store_id}/payments"]["parameters"]}
    assert "refunded" in parameters["status"]["schema"]["enum"]
    assert parameters["sort"]["schema"]["enum"] == [
        sign + name for name in ("created_at", "paid_at", "amount", "id") for sign in ("", "-")
    ]
    assert set(parameters["include"]["schema"]["items"]["enum"]) >= {"user", "package", "refunds"}
    assert "user.name" in parameters["fields"]["schema"]["items"]["enum"]


def test_bounds_of_a_body_are_those_that_are_checked(document):
    schema = document["components"]["schemas"]["NewPackage"]
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"name", "amount", "interval"}
    assert schema["properties"]["name"]["maxLength"] == 200
    assert schema["properties"]["amount"]["minimum"] == 0


def examples(document):
    for name, schema in document["components"]["schemas"].items():
        for example in schema.get("examples", ()):
            yield name, {"$ref": f"#/components/schemas/{name}"}, example
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for example in content["examples"].values():
                    yield f"{method} {path}", content["schema"], example["value"]
    for name, answer in document["components"]["responses"].items():
        for content in answer["content"].values():
            yield name, content["schema"], content["example"]


def test_every_example_is_valid(document):
    found = list(examples(document))
    assert len(found) > 30
    for where, schema, example in found:
        whole = {**schema, "components": document["components"]}
        errors = list(jsonschema.Draft202012Validator(whole).iter_errors(example))
        assert not errors, f"{where}: {errors[0].message}"


def test_it_is_served_and_revalidated(client):
    answer = client.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.mimetype == "application/json"
    assert answer.json["openapi"].startswith("3.1")
    again = client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Vary"] == answer.headers["Vary"] == "Accept-Encoding"
