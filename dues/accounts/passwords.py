"""Passwords, kept as argon2id hashes that cost 19 MiB and two passes to guess at (OWASP's recommendation)."""

from base64 import b64encode

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1

_hasher = PasswordHasher(memory_cost=MEMORY_KIB, time_cost=PASSES, parallelism=LANES)


def _encoded(raw: bytes) -> str:
    return b64encode(raw).decode().rstrip("=")


# A well-formed hash of no password: checking against it takes as long as against a real one.
NOBODY = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${_encoded(bytes(16))}${_encoded(bytes(32))}"


def hash_password(password: str) -> str:
    """Takes some 20 ms of a processor on purpose: call it before a transaction's first statement where possible."""
    return _hasher.hash(password)


def is_password(password: str, password_hash: str) -> bool:
    try:
        return _hasher.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's, and should be made anew at the next log-in."""
    return _hasher.check_needs_rehash(password_hash)
