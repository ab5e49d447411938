"""Secrets of endpoints, and signatures as Standard Webhooks has them (symmetric, `v1`).

A secret must be kept as it is, because signing needs it. It is shown in the answer that makes it and in no other.
"""

import hmac
from base64 import b64decode, b64encode
from collections.abc import Iterable
from hashlib import sha256
from uuid import UUID

_PREFIX = "whsec_"


def write_secret(seed: bytes, endpoint_id: UUID) -> str:
    """`whsec_` and 32 bytes in base64: the same for the same seed (32 bytes that nobody can guess) and endpoint."""
    return _PREFIX + b64encode(hmac.digest(seed, b"webhook secret\0" + endpoint_id.bytes, sha256)).decode()


def signed_headers(secrets: Iterable[str], event_id: UUID, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows `body` to be ours, with a signature for each secret. `timestamp` is the
    attempt's, in seconds since 1970."""
    return {
        "webhook-id": str(event_id),
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signature(secret, str(event_id), str(timestamp), body) for secret in secrets),
    }


def signature(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    """One signature over what the three headers and the body say."""
    key = b64decode(secret.removeprefix(_PREFIX))
    content = f"{message_id}.{timestamp}.".encode("utf-8", "replace") + body
    return "v1," + b64encode(hmac.digest(key, content, sha256)).decode()
