"""What docs/webhooks.md and the OpenAPI document say is so."""

import re
from pathlib import Path
from typing import Any

import jsonschema

from api.app import MODULES
from api.openapi.document import build_document
from dues.events import EVENT_TYPES
from tests.webhooks.hooks import Hooks

GUIDE = (Path(__file__).parents[2] / "docs" / "webhooks.md").read_text()


def test_its_example_verifies_what_arrives(hooks: Hooks):
    [example] = [code for code in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL) if "def is_ours" in code]
    names: dict[str, Any] = {}
    exec(example, names)
    is_ours = names["is_ours"]
    endpoint = hooks.register()
    hooks.happen()
    hooks.work.drain()
    [call] = hooks.receiver.calls
    assert is_ours(endpoint["secret"], call.headers, call.body)
    assert not is_ours(endpoint["secret"], call.headers, call.body + b" ")
    assert not is_ours(endpoint["secret"], {**call.headers, "webhook-timestamp": "1"}, call.body)


def test_its_table_has_every_type():
    named = re.findall(r"`([a-z_]+\.[a-z_]+)`", GUIDE.partition("## What arrives")[0])
    assert sorted(named) == sorted(EVENT_TYPES)


def test_what_arrives_is_what_the_document_says(hooks: Hooks):
    document = build_document(MODULES)
    assert set(document["webhooks"]) == set(EVENT_TYPES)
    hooks.register()
    hooks.happen()
    payment = {"amount": 1500, "currency": "EUR", "payment_method": "sandbox_ok"}
    paid = hooks.send("POST", "/payments", payment, Idempotency_Key="1")
    hooks.work.drain()
    hooks.send("POST", f"/payments/{(paid.json or {})['id']}/refunds", {}, Idempotency_Key="2")
    hooks.work.drain()
    told = {event["type"]: event for event in hooks.receiver.events}
    assert set(told) >= {"package.created", "payment.created", "payment.refunded", "refund.succeeded"}
    for event_type, event in told.items():
        content = document["webhooks"][event_type]["post"]["requestBody"]["content"]["application/json"]
        schema = {**content["schema"], "components": document["components"]}
        errors = list(jsonschema.Draft202012Validator(schema).iter_errors(event))
        assert not errors, f"{event_type}: {errors[0].message}"
