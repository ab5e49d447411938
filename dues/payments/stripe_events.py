"""Stripe's events, from webhooks or lists: each is read as a hint, which says what to ask Stripe about.

Nothing else of an event is trusted or stored, neither a status nor an amount. So it does not matter in which order
events arrive, how often, or how old they are.
"""

import hmac
import re
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

import msgspec

from dues.payments.gateway import Hint

_ABOUT: dict[str, Literal["charge", "setup", "dispute", "refund"]] = {
    "payment_intent.succeeded": "charge",
    "payment_intent.payment_failed": "charge",
    "payment_intent.canceled": "charge",
    "setup_intent.succeeded": "setup",
    "setup_intent.canceled": "setup",
    "refund.updated": "refund",
    "refund.failed": "refund",
    "charge.dispute.created": "dispute",
    "charge.dispute.updated": "dispute",
    "charge.dispute.closed": "dispute",
    "charge.dispute.funds_withdrawn": "dispute",
    "charge.dispute.funds_reinstated": "dispute",
}
EVENT_TYPES = tuple(_ABOUT)
_KEYS = {"charge": "dues_payment", "setup": "dues_setup", "refund": "dues_refund"}

# How long after signing a webhook is accepted, in seconds; a copy of it is worthless after that.
TOLERANCE_S = 300
_MOST_SIGNATURES = 10
_ID = re.compile(r"[A-Za-z0-9_]{1,255}")


def age_of_signature(body: bytes, header: str, secrets: Iterable[str]) -> int | None:
    """How many seconds ago, by our clock, a webhook was signed with one of the secrets; None if it was not. Takes the
    same time whatever is wrong with the signature."""
    parts = [part.partition("=") for part in header.split(",")[: _MOST_SIGNATURES + 2]]
    at = next((value for name, _, value in parts if name.strip() == "t"), "")
    given = [value.strip() for name, _, value in parts if name.strip() == "v1"]
    is_time = at.isascii() and at.isdigit() and len(at) <= 12
    signed = at.encode() + b"." + body
    found = False
    for secret in secrets:
        expected = hmac.new(secret.encode(), signed, sha256).hexdigest().encode()
        for signature in given:
            found |= hmac.compare_digest(expected, signature.encode())
    return int(time.time()) - int(at) if found and is_time else None


class _Object(msgspec.Struct):
    id: str
    metadata: dict[str, str] | None = None


class _Data(msgspec.Struct):
    object: _Object


class _Event(msgspec.Struct):
    id: str
    type: str
    data: _Data
    account: str | None = None


def read_event(body: bytes, store_id: str) -> Hint | None:
    """The hint in a webhook's body; None if it concerns nothing of this store. Raises: msgspec.ValidationError,
    DecodeError."""
    return _hint(msgspec.json.decode(body, type=_Event), store_id)


def hint_of(event: Mapping[str, Any], store_id: str) -> Hint | None:
    """The hint in an event from a list; None if it concerns nothing of this store."""
    return _hint(msgspec.convert(event, _Event), store_id)


def _hint(event: _Event, store_id: str) -> Hint | None:
    about, found = _ABOUT.get(event.type), event.data.object
    # Events with an `account` belong to an account connected to the store's, which Dues ignores.
    if about is None or event.account is not None or not (_ID.fullmatch(event.id) and _ID.fullmatch(found.id)):
        return None
    if about == "dispute":
        return Hint(id=event.id, about=about, name=found.id, store_id=store_id)
    metadata = found.metadata or {}
    name = metadata.get(_KEYS[about], "")
    if metadata.get("dues_store") != store_id or not _is_id(name):
        return None
    return Hint(id=event.id, about=about, name=name, store_id=store_id)


def _is_id(name: str) -> bool:
    try:
        return str(UUID(name)) == name
    except ValueError:
        return False
