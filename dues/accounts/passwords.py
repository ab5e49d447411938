"""Passwords, kept as argon2id hashes that cost 19 MiB and two passes to guess at (OWASP's recommendation).

Hashing takes some 20 ms of a processor on purpose, so it happens before a transaction() begins and under no lock, and
only a few threads of a process are ever at it or wait for their turn: the others go on serving.
"""

import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from dues.errors import Unavailable
from dues.postgres import in_transaction

MEMORY_KIB, PASSES, LANES = 19 * 1024, 2, 1

_AT_ONCE = 2
_LONGEST_WAIT_S = 2.0

_hasher = PasswordHasher(memory_cost=MEMORY_KIB, time_cost=PASSES, parallelism=LANES)


class Turns:
    """Lets `at_once` threads hash at the same time and has others wait; `most` at most hash or wait."""

    def __init__(self, at_once: int, most: int) -> None:
        self.most = most
        self._hashing = threading.BoundedSemaphore(at_once)
        self._lock = threading.Lock()
        self._here = 0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Raises: Unavailable at once where too many are here already, or after a wait of 2 s."""
        self._enter()
        try:
            if not self._hashing.acquire(timeout=_LONGEST_WAIT_S):
                raise _busy()
            try:
                yield
            finally:
                self._hashing.release()
        finally:
            with self._lock:
                self._here -= 1

    def _enter(self) -> None:
        with self._lock:
            if self._here >= self.most:
                raise _busy()
            self._here += 1


def _busy() -> Unavailable:
    return Unavailable("too many passwords are being checked at this moment", code="busy")


_turns = Turns(_AT_ONCE, most=4)


def share_threads(threads: int) -> None:
    """At most half of a process's `threads` are to hash, or wait for that, at any moment."""
    _turns.most = max(1, threads // 2)


def _encoded(raw: bytes) -> str:
    return b64encode(raw).decode().rstrip("=")


# A well-formed hash of no password: checking against it takes as long as against a real one.
NOBODY = f"$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${_encoded(bytes(16))}${_encoded(bytes(32))}"


def hash_password(password: str) -> str:
    """Raises: Unavailable where too many threads hash at this moment; RuntimeError inside a transaction()."""
    with _turn():
        return _hasher.hash(password)


def is_password(password: str, password_hash: str) -> bool:
    """Raises: as `hash_password` does."""
    with _turn():
        try:
            return _hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False


def is_outdated(password_hash: str) -> bool:
    """Whether the hash was made with other parameters than today's, and should be made anew at the next log-in."""
    return _hasher.check_needs_rehash(password_hash)


@contextmanager
def _turn() -> Iterator[None]:
    if in_transaction():
        raise RuntimeError("hash before transaction(): others would wait for its locks and its connection meanwhile")
    with _turns.turn():
        yield
