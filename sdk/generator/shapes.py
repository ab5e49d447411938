"""The OpenAPI document as plain values: models with typed fields, and operations with what they take and answer.

Names are found by rule. An operation belongs to the group that its tag names, and there it is called like its
operationId less the group's own noun: `create_package` of the tag `packages` is `packages.create`.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]

# Of the document's schemas, those that the clients write by hand or have no use for.
_NOT_MODELS = {"Fault", "Problem", "PageLinks", "PageMeta", "CursorMeta", "Shortened"}
_PAGING = {"page", "per_page", "total", "cursor", "limit", "fields", "include"}


@dataclass(frozen=True)
class Shape:
    """A type. kind: string, integer, number, boolean, time, choice, list, map, model or any."""

    kind: str
    item: "Shape | None" = None
    model: str = ""
    choices: tuple[str, ...] = ()
    nullable: bool = False


@dataclass(frozen=True)
class Field:
    """Of a model, a body or a query. `name` is that in JSON, or in the query."""

    name: str
    shape: Shape
    required: bool = True
    description: str = ""


@dataclass(frozen=True)
class Model:
    name: str
    fields: tuple[Field, ...]
    description: str = ""
    is_body: bool = False


@dataclass(frozen=True)
class Operation:
    """result: model, list, slow (begun, to be waited for), file, events or none; `answer` is the model's name."""

    group: str
    name: str
    method: str
    path: str
    ids: tuple[str, ...]
    query: tuple[Field, ...]
    includes: tuple[str, ...]
    body: Model | None
    result: str
    answer: str
    selects: bool = False
    takes_key: bool = False
    takes_version: bool = False
    takes_wait: bool = False
    # The media types of the file that is sent, the usual one first.
    uploads: tuple[str, ...] = ()
    summary: str = ""
    description: str = ""


@dataclass
class Shapes:
    models: dict[str, Model] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    groups: dict[str, str] = field(default_factory=dict)
    events: dict[str, str] = field(default_factory=dict)


def read_document(document: Document) -> Shapes:
    """All that the clients are made from. Raises: ValueError where two operations would have the same name."""
    reader = _Reader(document)
    found = reader.shapes
    for name, schema in document["components"]["schemas"].items():
        if name not in _NOT_MODELS and not _is_list(schema):
            reader.add_model(name, schema)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            found.operations += reader.read_operation(method.upper(), path, operation)
    used = {operation.group for operation in found.operations}
    found.groups = {tag["name"]: tag["description"] for tag in document["tags"] if tag["name"] in used}
    names = [(operation.group, operation.name) for operation in found.operations]
    if doubles := {name for name in names if names.count(name) > 1}:
        raise ValueError(f"two operations would be called {doubles}")
    for event_type, item in document["webhooks"].items():
        content = item["post"]["requestBody"]["content"]["application/json"]
        data = content["schema"]["properties"]["data"]
        # One that is too large shows less of the same.
        found.events[event_type] = next(_referred(part) for part in _options(data) or [data])
    return found


def _is_list(schema: Document) -> bool:
    return set(schema.get("properties", ())) == {"data", "meta", "links"}


def _referred(schema: Document) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


class _Reader:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._schemas: dict[str, Document] = document["components"]["schemas"]
        self.shapes = Shapes()

    def add_model(self, name: str, schema: Document) -> Model:
        is_body = "title" in schema
        # Rows say nothing of what is required: `fields` may leave out any.
        required = set(schema.get("required") or (() if is_body else schema.get("properties", {})))
        fields = tuple(
            Field(key, self.shape(below, name + camel(key)), key in required, below.get("description", ""))
            for key, below in schema.get("properties", {}).items()
        )
        model = Model(name, fields, " ".join(schema.get("description", "").split()), is_body)
        self.shapes.models[name] = model
        return model

    def shape(self, schema: Document, owner: str) -> Shape:
        """`owner` is what an object without a name of its own is to be called."""
        if name := _referred(schema):
            return Shape("model", model=name)
        either = [part for part in _options(schema) if part.get("type") != "null"]
        if either:
            inner = self.shape(either[0], owner) if len(either) == 1 else Shape("any")
            return Shape(inner.kind, inner.item, inner.model, inner.choices, nullable=_may_be_null(schema))
        kinds = schema.get("type", "string" if "enum" in schema else "any")
        kind = next((k for k in kinds if k != "null"), "any") if isinstance(kinds, list) else kinds
        return self._plain(schema, str(kind), owner, nullable=isinstance(kinds, list) and "null" in kinds)

    def _plain(self, schema: Document, kind: str, owner: str, *, nullable: bool) -> Shape:
        if "enum" in schema and kind == "string":
            choices = tuple(str(choice) for choice in schema["enum"] if choice is not None)
            return Shape("choice", choices=choices, nullable=nullable or None in schema["enum"])
        if kind == "string":
            return Shape("time" if schema.get("format") == "date-time" else "string", nullable=nullable)
        if kind == "array":
            return Shape("list", item=self.shape(schema.get("items", {}), owner.removesuffix("s")), nullable=nullable)
        if kind == "object":
            if schema.get("properties") and not owner.endswith("Links"):
                self.add_model(owner, {key: value for key, value in schema.items() if key != "description"})
                return Shape("model", model=owner, nullable=nullable)
            return Shape("map", nullable=nullable, item=Shape("string") if owner.endswith("Links") else None)
        return Shape(kind, nullable=nullable)

    def read_operation(self, method: str, path: str, operation: Document) -> Iterator[Operation]:
        """One operation; or several, where what is sent may be one of several bodies."""
        group = operation["tags"][0]
        result, answer = self._result(operation)
        parameters = [self._resolved(parameter) for parameter in operation["parameters"]]
        headers = {p["name"] for p in parameters if p["in"] == "header"}
        query = [p for p in parameters if p["in"] == "query"]
        include = next((p["schema"]["items"]["enum"] for p in query if p["name"] == "include"), ())
        for body in self._bodies(operation):
            yield Operation(
                group=group,
                name=self._name(operation["operationId"], group, method, path, body),
                method=method,
                path=path,
                ids=tuple(re.findall(r"\{(\w+)\}", path)),
                query=tuple(self._parameter(p) for p in query if p["name"] not in _PAGING),
                includes=tuple(include),
                body=body,
                result=result,
                answer=answer,
                # Events are read by this client itself, which needs all of them.
                selects=result != "events" and any(p["name"] == "fields" for p in query),
                takes_key="Idempotency-Key" in headers,
                takes_version="If-Match" in headers,
                takes_wait="Prefer" in headers and result == "slow",
                uploads=() if body else tuple(operation.get("requestBody", {}).get("content", ())),
                summary=operation["summary"],
                description=operation["description"],
            )

    def _bodies(self, operation: Document) -> list[Model | None]:
        content = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if content is None:
            return [None]
        schema = content["schema"]
        return [self.shapes.models[_referred(part)] for part in schema.get("anyOf", [schema])]

    def _resolved(self, parameter: Document) -> Document:
        name = _referred(parameter)
        found: Document = self._document["components"]["parameters"][name] if name else parameter
        return found

    def _parameter(self, parameter: Document) -> Field:
        shape = self.shape(parameter["schema"], camel(parameter["name"]))
        return Field(parameter["name"], shape, bool(parameter.get("required")), parameter.get("description", ""))

    def _result(self, operation: Document) -> tuple[str, str]:
        answers = {status: answer for status, answer in operation["responses"].items() if status < "3"}
        first = next(iter(answers.values()))
        content = first.get("content", {})
        if "text/event-stream" in content:
            return "events", "Job"
        if content.keys() - {"application/json"}:
            return "file", ""
        name = _referred(content.get("application/json", {}).get("schema", {}))
        if not name:
            return "none", ""
        if _is_list(self._schemas[name]):
            return "list", _referred(self._schemas[name]["properties"]["data"]["items"])
        return ("slow" if "202" in answers and "200" not in answers else "model"), name

    def _name(self, operation_id: str, group: str, method: str, path: str, body: Model | None) -> str:
        if body and body.name != f"New{camel(_singular(group))}" and self._is_one_of_several(operation_id):
            return _snake(body.name)
        words = operation_id.split("_")
        if len(words) == 2 and words[1] in (group, _singular(group)):
            # What is asked for, ordered or begun is made by a POST to the list where it is found.
            is_list = "get" in self._document["paths"][path]
            return "create" if method == "POST" and is_list else words[0]
        if len(words) == 3 and words[1:] == ["my", group]:
            return f"{words[0]}_mine"
        if len(words) > 2 and words[1] == _singular(group):
            del words[1]
        return "_".join(words)

    def _is_one_of_several(self, operation_id: str) -> bool:
        for item in self._document["paths"].values():
            for operation in item.values():
                if operation["operationId"] == operation_id:
                    return len(self._bodies(operation)) > 1
        return False


def _options(schema: Document) -> list[Document]:
    return list(schema.get("anyOf") or schema.get("oneOf") or ())


def _may_be_null(schema: Document) -> bool:
    return any(part.get("type") == "null" for part in _options(schema))


def _singular(noun: str) -> str:
    return noun[:-3] + "y" if noun.endswith("ies") else noun.removesuffix("s")


def camel(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[_\W]+", name))


def _snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
