"""The OpenAPI 3.1 document, generated from the declarations that run: routes, the structs that validate bodies, and
the resources that are read.

Nothing about a route is written down twice. A summary comes from the handler's docstring, or else its name; a route's
`responses` and `parameters` say what cannot be derived (a file's content, say); `responses={403: {}}` adds a refusal.
"""

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import ujson
from flask import Flask, Response

from api.auth import PUBLIC
from api.flask_host import respond
from api.openapi.examples import ID, Examples
from api.openapi.parts import (
    CURSOR_META,
    FAULT,
    HEADERS,
    LINKS,
    PAGE_META,
    PARAMETERS,
    PROBLEM,
    PROBLEMS,
    SECURITY,
    Part,
    list_schema,
    problem_answer,
    ref,
)
from api.openapi.webhooks import EVENTS_TAG, SHORTENED, webhook_items
from api.reply import Reply, json_reply
from api.routing import Route, Routes
from dues import VERSION
from dues.reads import Equal, Flag, Range, Resource
from dues.reads.query import OPERATORS
from dues.reads.resource import column_schema, type_schema
from dues.reads.selection import MAX_INCLUDE_DEPTH
from dues.reads.serve import digest

_PHRASES = {200: "OK", 201: "Created", 202: "Accepted: slow work has begun", 204: "Done; no content"}
_INFO = {
    "title": "Dues",
    "version": VERSION,
    "summary": "Memberships and payments",
    "description": (Path(__file__).parent / "introduction.md").read_text(encoding="utf-8"),
    "license": {"name": "MIT", "identifier": "MIT"},
}


def init_openapi(app: Flask, modules: Sequence[Routes]) -> None:
    """Serve the document at `/openapi.json`; it is built when it is first asked for."""
    built: list[Reply] = []

    @app.get("/openapi.json")
    def openapi_document() -> Response:
        if not built:
            reply = json_reply(build_document(modules))
            etag = f'"{digest(reply.body or b"")}"'
            reply.headers = {"ETag": etag, "Cache-Control": "public, no-cache", "Vary": "Accept-Encoding"}
            built.append(reply)
        return respond(replace(built[0], headers=dict(built[0].headers)))


def build_document(modules: Sequence[Routes]) -> Part:
    """The whole document, as JSON values."""
    routes = [route for module in modules for route in module.all]
    examples = Examples(modules)
    schemas = _schemas(routes, examples)
    paths: dict[str, Part] = {}
    for module in modules:
        for route in module.all:
            paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, module.name, schemas, examples)
    return {
        "openapi": "3.1.0",
        "info": _INFO,
        "servers": [{"url": "/"}],
        "tags": [*({"name": module.name, "description": _about(module)} for module in modules), EVENTS_TAG],
        "paths": paths,
        "webhooks": webhook_items(),
        "components": {
            "schemas": schemas,
            "parameters": PARAMETERS,
            "headers": HEADERS,
            "responses": {f"Problem{status}": problem_answer(status) for status in PROBLEMS},
            "securitySchemes": {"bearer": SECURITY},
        },
    }


def _about(module: Routes) -> str:
    """The first paragraph of the docstring of the module that declares these routes."""
    docstring = sys.modules[module.all[0].handler.__module__].__doc__ or ""
    return " ".join(docstring.strip().split("\n\n")[0].split())


def _operation(route: Route, tag: str, schemas: dict[str, Part], examples: Examples) -> Part:
    summary, description = _words(route)
    operation: Part = {
        "operationId": route.handler.__name__,
        "tags": [tag],
        "summary": summary,
        "description": description,
        "security": _security(route),
        "parameters": list(_parameters(route)),
        "responses": dict(_responses(route)),
    }
    if route.bodies:
        content = {"application/json": _body(route, schemas, examples)}
        operation["requestBody"] = {"required": not route.optional_body, "content": content}
    if route.uploads:
        file = {"type": "string", "format": "binary"}
        content = {
            media_type: {"schema": file, "examples": {"rows": {"summary": "Two rows", "value": example}}}
            for media_type, example in route.uploads.items()
        }
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _security(route: Route) -> list[Part]:
    if route.scope != PUBLIC:
        return [{"bearer": [route.scope]}]
    # What anybody may write has no lock: some generators take one that may be left out for one that must be there, and
    # nobody could log in with their client. With a token a read counts against the limit of its user, and may see more.
    return [] if route.writes and not route.composes else [{}, {"bearer": []}]


def _body(route: Route, schemas: dict[str, Part], examples: Examples) -> Part:
    names = [struct.__name__ for struct in route.bodies]
    either = [ref("schemas", name) for name in names]
    shown: dict[str, Part] = {}
    for name in names:
        alternatives = examples.bodies.get(name) or {"": examples.sample(schemas[name], owner=name)}
        for summary, value in alternatives.items():
            key = name + re.sub(r"\W+", "", summary.title())
            shown[key] = {"summary": summary or name, "value": value}
    return {"schema": either[0] if len(either) == 1 else {"anyOf": either}, "examples": shown}


def _words(route: Route) -> tuple[str, str]:
    """An operation's summary, and what else there is to say: from its docstring, and from what it declares."""
    docstring = inspect.getdoc(route.handler) or ""
    first, _, rest = docstring.partition("\n\n")
    summary = " ".join(first.split()).rstrip(".") or route.handler.__name__.replace("_", " ").capitalize()
    parts = (rest.strip(), _manners(route), " ".join(_needs(route)))
    return summary, "\n\n".join(part for part in parts if part)


def _manners(route: Route) -> str:
    if route.slow:
        return (
            "The work is done in the background: the answer is 202, and `Location` is the status URL of the job that "
            "does it. With `Prefer: wait=10` the answer comes when the job is done: 201."
        )
    if route.lists:
        return "A page by number (`page`, `per_page`), with a total, or by cursor (`cursor`, `limit`), without."
    return ""


def _needs(route: Route) -> Iterator[str]:
    if route.bearer_scope and route.body and route.bearer_body:
        yield f"Without a token: a `{route.body.__name__}`. With one that has the scope `{route.bearer_scope}`: a"
        yield f"`{route.bearer_body.__name__}`."
    elif route.scope == PUBLIC:
        yield "Needs no token."
    else:
        yield f"Needs a token with the scope `{route.scope}`" + (", bound to no store." if route.unbound else ".")
    if route.role:
        yield f"Kept for the store's staff, from the role `{route.role}` up."


def _parameters(route: Route) -> Iterator[Part]:
    for name in re.findall(r"\{(\w+)\}", route.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "format": "uuid"}}
    if resource := route.lists or route.reads:
        yield from _selection(resource)
    if route.lists:
        yield from _filters(route.lists)
        for name in ("page", "per_page", "total", "cursor", "limit", *(("q",) if route.lists.search else ())):
            yield ref("parameters", name)
    if route.method == "GET" and not route.streams:
        yield ref("parameters", "if_none_match")
    if route.method in ("PATCH", "DELETE"):
        yield ref("parameters", "if_match")
    if route.idempotency != "no":
        yield ref("parameters", "idempotency_key" + ("_required" if route.idempotency == "required" else ""))
    if route.waits or route.slow:
        yield ref("parameters", "prefer")
    yield from (dict(parameter) for parameter in route.parameters)


def _names_parameter(name: str, description: str, names: Iterable[str]) -> Part:
    items = {"type": "string", "enum": list(names)}
    return {
        "name": name,
        "in": "query",
        "description": description,
        "style": "form",
        "explode": False,
        "schema": {"type": "array", "items": items, "minItems": 1},
    }


def _selection(resource: Resource) -> Iterator[Part]:
    fields, includes = list(resource.fields), []
    for path, below in _includes(resource):
        includes.append(path)
        fields += [f"{path}.{name}" for name in below.fields]
    yield _names_parameter(
        "fields",
        "Only these; those of an include as `include.field`. The answer then lacks what its schema calls required: a "
        "client that checks that is not to send this.",
        fields,
    )
    if includes:
        yield _names_parameter("include", "Rows that belong to each, in the same answer.", includes)


def _includes(resource: Resource, before: str = "", depth: int = 1) -> Iterator[tuple[str, Resource]]:
    for name, include in resource.includes.items():
        yield before + name, include.resource
        if depth < MAX_INCLUDE_DEPTH:
            yield from _includes(include.resource, f"{before}{name}.", depth + 1)


def _filters(resource: Resource) -> Iterator[Part]:
    for name, declared in resource.filters.items():
        match declared:
            case Equal(column, choices):
                schema = {"type": "string", "enum": list(choices)} if choices else type_schema(column.type)
                yield {"name": name, "in": "query", "schema": schema}
            case Range(column):
                for operator, sign in OPERATORS.items():
                    yield {
                        "name": f"{name}[{operator}]" if operator else name,
                        "in": "query",
                        "description": f"{name} {sign} this",
                        "schema": type_schema(column.type),
                    }
            case Flag():
                yield {"name": name, "in": "query", "schema": {"type": "boolean"}}
    sorts = [sign + name for name in resource.sorts for sign in ("", "-")]
    yield {
        "name": "sort",
        "in": "query",
        "description": "With `-` the largest first; ties by id.",
        "schema": {"type": "string", "enum": sorts, "default": resource.default_sort},
    }


def _responses(route: Route) -> Iterator[tuple[str, Part]]:
    for status in route.statuses:
        yield str(status), _success(route, status) | dict(route.responses.get(status, {}))
    if (route.lists or route.reads) and not route.streams:
        headers = {name: ref("headers", name) for name in ("ETag", "X-Request-Id")}
        yield "304", {"description": "Not modified: what you have still holds", "headers": headers}
    for status, declared in sorted(route.responses.items()):
        if status not in route.statuses and status not in PROBLEMS:
            yield str(status), dict(declared)
    for status in sorted(_refusals(route)):
        yield str(status), dict(route.responses.get(status, {})) or ref("responses", f"Problem{status}")


def _success(route: Route, status: int) -> Part:
    names = ["X-Request-Id"]
    if route.method == "POST" or status == 202:
        names.append("Location")
    if status == 202:
        names.append("Retry-After")
    if route.idempotency != "no":
        names.append("Idempotency-Replayed")
    if route.waits or (route.slow and status == 201):
        names.append("Preference-Applied")
    schema = None if status == 204 or route.streams else _answer_schema(route)
    if schema and not isinstance(route.returns, type) and not route.seal:
        names.append("ETag")
    answer: Part = {
        "description": _PHRASES.get(status, "Success"),
        "headers": {name: ref("headers", name) for name in names},
    }
    if schema:
        answer["content"] = {"application/json": {"schema": schema}}
    return answer


def _answer_schema(route: Route) -> Part | None:
    if route.lists:
        return ref("schemas", f"{route.lists.name}List")
    answered = route.reads or route.returns
    if answered is None:
        return None
    schema = ref("schemas", answered.name if isinstance(answered, Resource) else answered.__name__)
    return {"anyOf": [schema, ref("schemas", route.also.__name__)]} if route.also else schema


def _refusals(route: Route) -> set[int]:
    """The statuses by which a route may refuse, as the contract's order of refusals has them."""
    found = {400, 401, 429, 500, 503} | (route.responses.keys() & PROBLEMS.keys())
    if route.scope != PUBLIC or route.bearer_scope:
        found.add(403)
    if "{" in route.path:
        found.add(404)
    if "{store_id}" in route.path:
        found.add(421)
    if route.composes:
        # Whatever one of its requests is refused for.
        found |= {403, 404, 412, 421, 424}
    if route.writes:
        found |= {409, 413, 415}
    if route.bodies or route.idempotency != "no":
        found.add(422)
    if route.method in ("PATCH", "DELETE"):
        found.add(412)
    return found


def _schemas(routes: Sequence[Route], examples: Examples) -> dict[str, Part]:
    """Every schema by its name. Raises: TypeError when two different ones have the same."""
    schemas: dict[str, Part] = {}

    def add(name: str, schema: Part) -> None:
        if schemas.setdefault(name, schema) != schema:
            raise TypeError(f"two schemas are called {name}")

    answers = [answer for route in routes for answer in (route.returns, route.also) if isinstance(answer, type)]
    answered = {answer.__name__: answer for answer in answers}
    structs = [*(struct for route in routes for struct in route.bodies), *answered.values()]
    for name, schema in msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")[1].items():
        shown = {"examples": [examples.sample(schema, owner=name)]} if name in answered else {}
        add(name, _portable(schema) | shown)
    paths = {route.reads.name: re.sub(r"\{\w+\}", ID, route.path) for route in routes if route.reads}
    for route in routes:
        for resource in (route.lists, route.reads, route.returns):
            if isinstance(resource, Resource):
                for one in (resource, *(below for _, below in _includes(resource))):
                    add(one.name, _resource_schema(one, paths.get(one.name, ""), examples))
    for resource in {route.lists for route in routes if route.lists}:
        path = paths.get(resource.name, "").rpartition("/")[0] or f"/v1/stores/{ID}"
        add(f"{resource.name}List", list_schema(resource.name, schemas[resource.name]["examples"][0], path))
    for name, schema in {
        "Problem": PROBLEM,
        "Fault": FAULT,
        "PageLinks": LINKS,
        "PageMeta": PAGE_META,
        "CursorMeta": CURSOR_META,
        "Shortened": SHORTENED,
    }.items():
        add(name, schema)
    return dict(sorted(schemas.items()))


def _portable(schema: Any) -> Any:
    """The same in words that other languages' tools understand: a boolean that can only be one as a constant,
    patterns without what only Python needs (its `$` matches before a last line break, too), docstrings unindented, and
    defaults in the description, because generators have clients send them, or ask for whatever has one."""
    if isinstance(schema, list):
        return [_portable(value) for value in schema]
    if not isinstance(schema, dict):
        return schema
    said = {key: _portable(value) for key, value in schema.items()}
    if said.get("enum") in ([True], [False]):
        said |= {"type": "boolean", "const": said.pop("enum")[0]}
    if isinstance(said.get("pattern"), str):
        said["pattern"] = said["pattern"].replace(r"$(?!\n)", "$")
    # Not a field of that name.
    if not isinstance(default := said.get("default"), dict) and "default" in said:
        del said["default"]
        words = f"`{ujson.dumps(default)}` unless something else is sent" if default else ""
        said["description"] = "; ".join(part for part in (said.get("description"), words) if part)
    if isinstance(said.get("description"), str):
        said["description"] = inspect.cleandoc(said["description"])
    return said


def _resource_schema(resource: Resource, path: str, examples: Examples) -> Part:
    """A resource's schema with an example, which is found at `path`."""
    schema: Part = resource.schema()
    for declared in resource.filters.values():
        if isinstance(declared, Equal) and declared.choices:
            for name, field in resource.fields.items():
                if field is declared.column:
                    null = [None] if declared.column.nullable else []
                    schema["properties"][name] = {**column_schema(field), "enum": [*declared.choices, *null]}
    example = examples.sample(schema, owner=resource.name)
    for name in example.get("links", ()):
        if path and name not in ("job", "confirmation"):
            example["links"][name] = path if name == "self" else f"{path}/{name}"
    return {**schema, "examples": [example]}
