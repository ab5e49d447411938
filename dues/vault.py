"""Secrets that others have entrusted to us, such as the key to a store's gateway: encrypted wherever they are kept.

AES-256-GCM with a random nonce. Each is bound to its place, the row and column that it belongs in: what is copied to
another row decrypts to nothing. A sealed secret names its key, so that keys can be rotated: put a new one first in
SECRETS_KEYS, run `flask gateways rotate`, then take the old one away.

    1 byte: 1, the version | 8: which key | 12: nonce | ciphertext, tag
"""

import base64
import os
from functools import lru_cache
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dues.errors import Unavailable
from dues.settings import settings

_VERSION = b"\x01"
_KEY_ID, _NONCE = 8, 12


class SecretUnreadable(Unavailable):
    """A secret cannot be encrypted or decrypted with the keys that this process has."""

    code = "secret_unreadable"


def seal(secret: str, place: str) -> bytes:
    """`secret` as it may be kept at `place`. Raises: SecretUnreadable where there is no key."""
    key = _current()
    nonce = os.urandom(_NONCE)
    return _VERSION + _id_of(key) + nonce + AESGCM(key).encrypt(nonce, secret.encode(), place.encode())


def unseal(sealed: bytes, place: str) -> str:
    """Raises: SecretUnreadable for what was sealed elsewhere, with a key that is not known, or changed since."""
    sealed = bytes(sealed)
    key = _keys(settings().secrets_keys).get(sealed[1 : 1 + _KEY_ID])
    if sealed[:1] != _VERSION or key is None:
        raise SecretUnreadable("a secret was encrypted with a key that is not among SECRETS_KEYS")
    nonce, text = sealed[1 + _KEY_ID :][:_NONCE], sealed[1 + _KEY_ID + _NONCE :]
    try:
        return AESGCM(key).decrypt(nonce, text, place.encode()).decode()
    except InvalidTag:
        raise SecretUnreadable("a secret is not the one that was kept at its place") from None


def check_key() -> None:
    """Raises: SecretUnreadable where there is no key to encrypt with."""
    _current()


def is_current(sealed: bytes) -> bool:
    """Whether a secret is encrypted with the first of the keys."""
    return bytes(sealed[1 : 1 + _KEY_ID]) == _id_of(_current())


def key_id_of(sealed: bytes) -> str:
    """Which key a secret is encrypted with, in hexadecimal: a hash of it."""
    return bytes(sealed[1 : 1 + _KEY_ID]).hex()


def known_key_ids() -> set[str]:
    """Those of SECRETS_KEYS."""
    return {key_id.hex() for key_id in _keys(settings().secrets_keys)}


def new_key() -> str:
    return base64.urlsafe_b64encode(AESGCM.generate_key(256)).decode()


def _current() -> bytes:
    for key in _keys(settings().secrets_keys).values():
        return key
    raise SecretUnreadable("SECRETS_KEYS is not set, so no secret can be kept")


@lru_cache(maxsize=8)
def _keys(listed: str) -> dict[bytes, bytes]:
    keys = [base64.urlsafe_b64decode(key) for key in listed.split(",") if key]
    return {_id_of(key): key for key in keys}


def _id_of(key: bytes) -> bytes:
    return sha256(b"dues secrets" + key).digest()[:_KEY_ID]
