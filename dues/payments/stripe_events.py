"""What Stripe tells, by a hook or a list of events: read as hints, each of which says what to ask Stripe about.

Nothing else of an event is believed or kept: neither a status nor an amount. So it does not matter in which order
events come, how often, or how old they are.
"""

import hmac
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, Literal
from uuid import UUID

import msgspec

from dues.payments.gateway import Hint

_ABOUT: dict[str, Literal["charge", "setup", "dispute"]] = {
    "payment_intent.succeeded": "charge",
    "payment_intent.payment_failed": "charge",
    "payment_intent.canceled": "charge",
    "setup_intent.succeeded": "setup",
    "setup_intent.canceled": "setup",
    "charge.dispute.created": "dispute",
    "charge.dispute.updated": "dispute",
    "charge.dispute.closed": "dispute",
    "charge.dispute.funds_withdrawn": "dispute",
    "charge.dispute.funds_reinstated": "dispute",
}
EVENT_TYPES = tuple(_ABOUT)
_KEYS = {"charge": "dues_payment", "setup": "dues_setup"}

# How long after it was signed a hook is taken: a copy of it is worth nothing then.
TOLERANCE_S = 300
_MOST_SIGNATURES = 10
_LONGEST_ID = 255


def is_signed(body: bytes, header: str, secrets: Iterable[str]) -> bool:
    """Whether a hook was signed by one who knows one of the secrets, a short while ago. In the same time whatever is
    wrong with it."""
    parts = [part.partition("=") for part in header.split(",")[: _MOST_SIGNATURES + 2]]
    at = next((value for name, _, value in parts if name.strip() == "t"), "")
    given = [value.strip() for name, _, value in parts if name.strip() == "v1"]
    is_timely = at.isascii() and at.isdigit() and len(at) <= 12 and abs(time.time() - int(at)) <= TOLERANCE_S
    signed = at.encode() + b"." + body
    found = False
    for secret in secrets:
        expected = hmac.new(secret.encode(), signed, sha256).hexdigest().encode()
        for signature in given:
            found |= hmac.compare_digest(expected, signature.encode())
    return found and is_timely


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
    """What a hook hints at, if it is about anything of this store's. Raises: msgspec.ValidationError, DecodeError."""
    return _hint(msgspec.json.decode(body, type=_Event), store_id)


def hint_of(event: Mapping[str, Any], store_id: str) -> Hint | None:
    """What an event from a list hints at."""
    return _hint(msgspec.convert(event, _Event), store_id)


def _hint(event: _Event, store_id: str) -> Hint | None:
    about, found = _ABOUT.get(event.type), event.data.object
    # Of an account that is connected to the store's, which Dues does nothing with.
    if about is None or event.account is not None or max(len(event.id), len(found.id)) > _LONGEST_ID:
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
