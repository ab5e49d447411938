"""Cursors: an opaque, signed position in a list, bound to the list's resource, scope, filters and sort.

A cursor holds the sort keys of the row it stands at, so a walk neither skips nor repeats rows while others are
written, and costs the same at any depth.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from hashlib import sha256

import ujson

from dues.errors import InvalidParameter

_SIGNATURE_BYTES = 16


def _sign(payload: bytes, binding: str, secret: str) -> bytes:
    return hmac.digest(secret.encode(), b"cursor\0" + binding.encode() + b"\0" + payload, sha256)[:_SIGNATURE_BYTES]


def seal(payload: bytes, *, binding: str, secret: str) -> str:
    """The payload as a signed text, in letters that need no escape in a URL."""
    return _encode(_sign(payload, binding, secret) + payload)


def unseal(text: str, *, binding: str, secret: str) -> bytes | None:
    """The payload that `seal` was given with the same binding; None for a text that it did not make."""
    try:
        raw = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except ValueError:
        raw = b""
    # Base64 has many spellings of the same bytes; only the one that was given out is a cursor.
    if _encode(raw) != text:
        raw = b""
    signature, payload = raw[:_SIGNATURE_BYTES], raw[_SIGNATURE_BYTES:]
    return payload if hmac.compare_digest(signature, _sign(payload, binding, secret)) else None


def write_cursor(keys: str, *, forward: bool, binding: str, secret: str) -> str:
    """A cursor that continues after (`forward`) or before the row with these sort keys, a JSON array as PostgreSQL
    writes one; with none, before the end of the list."""
    direction = "true" if forward else "false"
    payload = f"[{direction}{', ' if keys != '[]' else ''}{keys[1:]}".encode()
    return seal(payload, binding=binding, secret=secret)


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def read_cursor(text: str, *, binding: str, secret: str) -> tuple[bool, list[str | int]]:
    """Whether it goes forward, and the sort keys, of a cursor that `write_cursor` made with the same binding.

    Raises: InvalidParameter for one that is damaged, forged, or from another list.
    """
    payload = unseal(text, binding=binding, secret=secret)
    if payload is None:
        raise InvalidParameter.of("cursor", "is not a cursor of this list with this sort and these filters")
    forward, *keys = ujson.loads(payload)
    return forward, keys
