"""Sample values for the OpenAPI document: what a reader of the docs page sees, and may send as it stands.

Chosen by a field's name: each module of routes declares its own (`Routes(examples=…)`), by the field's name, or
by "Schema.name" where names mean different things; what is common stands here. A field without one gets a value by its
type. A test holds every example valid against the schema that it stands beside.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from api.routing import Routes

Schema = Mapping[str, Any]

ID = "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20"
_TIME = "2026-11-20T14:39:00.123456+00:00"

# What means the same wherever it stands.
_COMMON: dict[str, Any] = {
    "amount": 1900,
    "balance_applied": 0,
    "body": "We open at seven.",
    "bytes": 48213,
    "city": "Kiel",
    "country": "DE",
    "currency": "EUR",
    "description": "All halls, every day",
    "email": "ada@example.com",
    "failure_code": None,
    "from": "2026-11-01T00:00:00Z",
    "interval": "month",
    "is_default": True,
    "kind": "payments",
    "line1": "Hafenstraße 5",
    "line2": None,
    "name": "Gold",
    "next_attempt_at": None,
    "number": "NCC-R-000123",
    "password": "a long enough passphrase",
    "payment_method": "sandbox_ok",
    "postal_code": "24103",
    "reason": "Closed for a week",
    "region": None,
    "status": "succeeded",
    "store_id": ID,
    "subscription_id": None,
    "timezone": "Europe/Berlin",
    "title": "New wall",
    "to": "2026-12-01T00:00:00Z",
    "token": "dues_…",
    "total": 1000,
    "version": 1,
}
_KINDS: dict[type, set[str]] = {
    type(None): {"null"},
    bool: {"boolean"},
    int: {"integer", "number"},
    float: {"number"},
    str: {"string"},
    list: {"array"},
    dict: {"object"},
}


class Examples:
    """The values that the modules of routes declare, beside those that are common."""

    def __init__(self, modules: Iterable[Routes]) -> None:
        """Raises: TypeError where two modules have different values for one field."""
        self._values = dict(_COMMON)
        self.bodies: dict[str, Mapping[str, Any]] = {}
        for module in modules:
            self.bodies |= module.bodies
            for name, value in module.examples.items():
                if self._values.setdefault(name, value) != value:
                    raise TypeError(f"routes of {module.name}: others have another {name}: name it Schema.{name} here")

    def sample(self, schema: Schema, name: str = "", owner: str = "") -> Any:
        """A value for the field `name` of the schema called `owner`. Includes (references) are left out."""
        for key in (f"{owner}.{name}", name):
            if key in self._values and _takes(schema, self._values[key]):
                return self._values[key]
        if either := schema.get("anyOf") or schema.get("oneOf"):
            return self.sample(next(option for option in either if option.get("type") != "null"), name, owner)
        kinds = _kinds(schema)
        if "object" in kinds:
            properties = schema.get("properties", {})
            shown = [key for key in properties if not _include(properties[key]) or f"{owner}.{key}" in self._values]
            return {key: self.sample(properties[key], key, owner) for key in shown}
        if "array" in kinds:
            return [self.sample(schema.get("items", {}), name, owner)]
        return _scalar(schema, kinds)


def _scalar(schema: Schema, kinds: list[str]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    if "string" in kinds:
        return {"uuid": ID, "date-time": _TIME, "uri-reference": f"/v1/jobs/{ID}"}.get(schema.get("format", ""), "text")
    return {"integer": 1, "number": 1.5, "boolean": False}.get(kinds[0] if kinds else "null")


def _kinds(schema: Schema) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


def _include(schema: Schema) -> bool:
    return "$ref" in schema or any("$ref" in below for below in (schema.get("items", {}), *schema.get("oneOf", ())))


def _takes(schema: Schema, value: Any) -> bool:
    """Whether a sample is of a kind that a schema allows; its finer bounds are the test's to hold."""
    if either := schema.get("anyOf") or schema.get("oneOf"):
        return any(_takes(option, value) for option in either)
    if "enum" in schema:
        return value in schema["enum"]
    if "$ref" in schema:
        return isinstance(value, dict)
    return not _KINDS[type(value)].isdisjoint(_kinds(schema))
