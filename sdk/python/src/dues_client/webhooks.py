"""Webhooks as they arrive: verified as Standard Webhooks has it, and read into an event of their type."""

import base64
import hmac
import json
import re
import time
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

from dues_client._model import WebhookEvent
from dues_client.errors import InvalidSignature
from dues_client.models import EVENTS, AnyEvent

TOLERANCE_S = 300
_SECONDS = re.compile(r"[0-9]{1,15}")


def verify(
    body: bytes | str, headers: Mapping[str, str], secret: str | Sequence[str], *, tolerance_s: float = TOLERANCE_S
) -> AnyEvent | WebhookEvent:
    """The event that a webhook brings.

    body: the bytes as they came. headers: as any framework has them, in capitals or not. secret: the endpoint's, or
    several while one is being replaced. Raises: InvalidSignature for what was not signed with (one of) them, or more
    than `tolerance_s` seconds ago.
    """
    raw = body.encode() if isinstance(body, str) else body
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, timestamp = given["webhook-id"], given["webhook-timestamp"]
        signatures = given["webhook-signature"].split()
    except KeyError as missing:
        raise InvalidSignature(f"there is no header {missing}") from None
    if not _SECONDS.fullmatch(timestamp) or abs(time.time() - int(timestamp)) > tolerance_s:
        raise InvalidSignature("it was signed too long ago, or its time is none")
    # Some frameworks hand on bytes that are no text as halves of characters, which nothing that was signed has.
    if not message_id.isascii():
        raise InvalidSignature("its id is none")
    signed = f"{message_id}.{timestamp}.".encode() + raw
    for one in [secret] if isinstance(secret, str) else secret:
        expected = "v1," + base64.b64encode(hmac.digest(_key(one), signed, sha256)).decode()
        if any(signature.isascii() and hmac.compare_digest(expected, signature) for signature in signatures):
            return read_event({**json.loads(raw), "id": message_id})
    raise InvalidSignature("no signature is of this secret")


def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        raise InvalidSignature("the secret is none: it begins with whsec_") from None


def read_event(document: Mapping[str, Any]) -> AnyEvent | WebhookEvent:
    """An event's document as the class of its type: `PaymentSucceededEvent`, …; of a type that this client does not
    know yet, a `WebhookEvent`."""
    return EVENTS.get(str(document.get("type")), WebhookEvent)(document)
