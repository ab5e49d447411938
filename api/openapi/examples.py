"""Sample values for the OpenAPI document: what a reader of the docs page sees, and may send as it stands.

Chosen by a field's name; a field that is not listed here gets a value by its type. A test holds every example valid
against the schema that it stands beside.
"""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

ID = "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20"
_TIME = "2026-11-20T14:39:00.123456+00:00"

# By name alone, or by "Schema.name" where names mean different things.
_SAMPLES: dict[str, Any] = {
    "amount": 1900,
    "advancing_to": None,
    "NewRefund.amount": 500,
    "archived_at": None,
    "balance_applied": 0,
    "cancel_comment": None,
    "cancel_reason": None,
    "attempt": 1,
    "BatchResults.results": [
        {"id": "me", "status": 200, "headers": {"ETag": '"1"'}, "body": {"id": ID, "name": "Ada Lovelace"}}
    ],
    "body": "We open at seven.",
    "brand": "visa",
    "bytes": 48213,
    "city": "Kiel",
    "completed": 340,
    "contact_email": "hello@north-coast.example",
    "country": "DE",
    "currencies": ["EUR", "CHF"],
    "currency": "EUR",
    "description": "All halls, every day",
    "done": False,
    "EmailConfirmation.code": "pRz1hC8rHkUoFqCwYwNn0m3cXv2aTq7LJd5sZbE4gKA",
    "PasswordResetConfirmation.code": "pRz1hC8rHkUoFqCwYwNn0m3cXv2aTq7LJd5sZbE4gKA",
    "email": "ada@example.com",
    "email_verified": True,
    "error": None,
    "eta": "2026-11-20T14:40:10.000000+00:00",
    "exp_month": 12,
    "exp_year": 2031,
    "expires_at": "2026-12-20T14:39:00.000000+00:00",
    "expires_in": 86400,
    "failure_code": None,
    "finished_at": None,
    "from": "2026-11-01T00:00:00Z",
    "format": "csv",
    "grace_days": 7,
    "interval": "month",
    "invoice_note": "Thank you for climbing with us.",
    "invoice_prefix": "NCC",
    "is_default": True,
    "kind": "payments",
    "Document.kind": "receipt",
    "Document.refund_id": None,
    "delivery_status": "sent",
    "Job.kind": "report.build",
    "Invoice.status": "paid",
    "Subscription.status": "active",
    "SubscriptionPreview.lines": [
        {
            "description": "Unused time: Silver",
            "amount": -950,
            "quantity": 1,
            "period": {"start": _TIME, "end": "2026-12-05T00:00:00.000000+00:00"},
        },
        {
            "description": "Gold",
            "amount": 1900,
            "quantity": 1,
            "period": {"start": _TIME, "end": "2026-12-05T00:00:00.000000+00:00"},
        },
    ],
    "SubscriptionPreview.subtotal": 950,
    "SubscriptionPreview.due": 950,
    "SubscriptionPreview.next_period": {"start": _TIME, "end": "2026-12-05T00:00:00.000000+00:00"},
    "label": "Home",
    "last4": "4242",
    "legal_name": "North Coast Climbing GmbH",
    "line1": "Hafenstraße 5",
    "line2": None,
    "max_attempts": 5,
    "name": "Gold",
    "Me.name": "Ada Lovelace",
    "NewStore.name": "North Coast Climbing",
    "NewToken.name": "till at the door",
    "NewUser.name": "Ada Lovelace",
    "UserChange.name": "Ada Lovelace",
    "StoreChange.name": "North Coast Climbing",
    "Profile.name": "Ada Lovelace",
    "Staff.name": "Ada Lovelace",
    "Store.name": "North Coast Climbing",
    "Token.name": "till at the door",
    "IssuedToken.name": "till at the door",
    "User.name": "Ada Lovelace",
    "NewStore.timezone": "Europe/Berlin",
    "next_action": None,
    "now": "2027-11-20T14:39:00Z",
    "next_attempt_at": None,
    "notify_new_payment": True,
    "number": "NCC-R-000123",
    "outcome": "succeed",
    "password": "a long enough passphrase",
    "payment_method": "sandbox_ok",
    "percent": 34.0,
    "postal_code": "24103",
    "progress": {"completed": 340, "total": 1000, "unit": "rows", "percent": 34.0},
    "reason": "Closed for a week",
    "refunded_amount": 0,
    "region": None,
    "result": None,
    "role": "support",
    "rows": 340,
    "scopes": ["catalog:read", "payments:read"],
    "slug": "north-coast",
    "StoreChange.slug": "north-coast-climbing",
    "status": "succeeded",
    "Job.status": "running",
    "current_password": "the passphrase until now",
    "store_id": ID,
    "Token.store_id": None,
    "IssuedToken.store_id": None,
    "subscription_id": None,
    "tax_id": "DE123456789",
    "test": False,
    "timezone": "Europe/Berlin",
    "title": "New wall",
    "to": "2026-12-01T00:00:00Z",
    "token": "dues_…",
    "NewPaymentMethod.token": "sandbox_ok",
    "total": 1000,
    "trial_days": 14,
    "unit": "rows",
    "url": "https://shop.example/hooks",
    "version": 1,
    "website": "https://north-coast.example",
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
# Bodies whose fields exclude one another, by what each is.
BODIES: dict[str, dict[str, Any]] = {
    "Batch": {
        "reads": {"operations": [{"id": "stores", "method": "GET", "path": "/v1/stores"}]},
        "a package, and a payment for it": {
            "atomic": True,
            "operations": [
                {
                    "id": "gold",
                    "method": "POST",
                    "path": f"/v1/stores/{ID}/packages",
                    "body": {"name": "Gold", "amount": 1900, "interval": "month"},
                },
                {
                    "id": "first",
                    "method": "POST",
                    "path": f"/v1/stores/{ID}/payments",
                    "body": {"package_id": {"$ref": "gold#/id"}, "payment_method": "sandbox_ok"},
                },
            ],
        },
    },
    "NewSubscription": {
        "a package": {"package_id": ID, "payment_method": "sandbox_ok"},
        "at the price that was seen": {"package_id": ID, "amount": 1900, "currency": "EUR"},
    },
    "SubscriptionChange": {
        "cancel at the period's end": {"cancel_at_period_end": True, "reason": "Moving away"},
        "another package now": {"package_id": ID, "when": "now"},
        "pause": {"paused": True, "resumes_at": "2027-03-01T00:00:00Z"},
        "another card": {"payment_method": "sandbox_ok"},
    },
    "SubscriptionEnding": {"with a refund": {"refund": "unused"}},
    "NewCreditNote": {"to the balance": {"amount": 500, "reason": "Closed for a week", "to": "balance"}},
    "NewPost": {
        "one's own": {"title": "New wall", "body": "We open at seven.", "privacy": "public"},
        "a store's, for its members": {
            "store_id": ID,
            "body": "The new wall is up. Members climb first.",
            "privacy": "members",
        },
    },
    "PostChange": {"a text": {"body": "We open at eight.", "privacy": "followers"}},
    "NewReplay": {
        "after an event": {"after_seq": 41, "missed": True},
        "from a time": {"from": "2026-11-20T14:39:00Z"},
    },
    "UserChange": {
        "a name": {"name": "Ada Lovelace"},
        "a password": {"password": "a long enough passphrase", "current_password": "the passphrase until now"},
    },
    "NewPayment": {
        "an amount": {
            "amount": 1900,
            "currency": "EUR",
            "description": "Donation",
            "payment_method": "sandbox_ok",
        },
        "a package": {"package_id": ID, "payment_method": "sandbox_ok"},
    },
}


def sample(schema: Schema, name: str = "", owner: str = "") -> Any:
    """A value for the field `name` of the schema called `owner`. Includes (references) are left out."""
    for key in (f"{owner}.{name}", name):
        if key in _SAMPLES and _takes(schema, _SAMPLES[key]):
            return _SAMPLES[key]
    if either := schema.get("anyOf") or schema.get("oneOf"):
        return sample(next(option for option in either if option.get("type") != "null"), name, owner)
    kinds = _kinds(schema)
    if "object" in kinds:
        properties = schema.get("properties", {})
        shown = {key: below for key, below in properties.items() if not _include(below) or f"{owner}.{key}" in _SAMPLES}
        return {key: sample(below, key, owner) for key, below in shown.items()}
    if "array" in kinds:
        return [sample(schema.get("items", {}), name, owner)]
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
