"""The OpenAPI document: valid, complete, and true of the routes that it describes."""

import re

import jsonschema
import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from api.app import MODULES
from api.openapi.document import build_document
from api.openapi.parts import PROBLEMS
from dues.accounts.actor import SCOPES

METHODS = {"get", "post", "put", "patch", "delete"}


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
    assert {tag for operation in operations.values() for tag in operation["tags"]} == set(explained)


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
        expected |= {403} if all("bearer" in way for way in operation["security"]) else set()
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
    assert parameters["sort"]["schema"]["enum"] == ["created_at", "-created_at", "amount", "-amount"]
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
                for name, example in content["examples"].items():
                    yield f"{method} {path}", {"$ref": f"#/components/schemas/{name}"}, example["value"]
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


def test_the_docs_page_and_its_assets_come_from_here(client):
    page = client.get("/docs")
    assert page.status_code == 200
    assert "/openapi.json" in page.text
    assert "https://" not in page.text
    paths = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(paths) >= 4
    for path in paths:
        with client.get(path) as asset:
            assert (path, asset.status_code) == (path, 200)


def test_the_docs_page_may_load_nothing_from_elsewhere(client):
    policy = client.get("/docs/").headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
