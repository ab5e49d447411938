"""Identifiers: UUIDv7 (RFC 9562), so that rows sort by the time they were made and can be partitioned by it."""

import os
import threading
import time
from functools import lru_cache
from hashlib import sha256
from uuid import UUID

_lock = threading.Lock()
# In steps of 1/4096 ms, as ids have them.
_last = 0
_MOST_AHEAD = 10_000 << 12


def new_id() -> UUID:
    """A new UUIDv7, greater than every one this process made before, while the clock is not set back by more than 10 s.

    The 48 bits of milliseconds are followed by 12 bits that hold the fraction of the millisecond; two ids made
    within the same 1/4096 ms still differ in order, because the later one is moved one step on.
    """
    global _last
    nanoseconds = time.time_ns()
    step = (nanoseconds // 1_000_000) << 12 | (nanoseconds % 1_000_000) * 4096 // 1_000_000
    with _lock:
        # A clock that is set back far was wrong. Ids that went on from there would be greater than those that all other
        # processes make, for as long as the clock had been ahead.
        if _last - step < _MOST_AHEAD:
            step = max(step, _last + 1)
        _last = step
    milliseconds, fraction = step >> 12, step & 0xFFF
    random = int.from_bytes(os.urandom(8)) & ((1 << 62) - 1)
    return UUID(int=(milliseconds & ((1 << 48) - 1)) << 80 | 7 << 76 | fraction << 64 | 2 << 62 | random)


def derived_id(of: UUID, number: int, *others: UUID) -> UUID:
    """An id that is the same whenever it is derived of the same: made, as far as its time says, when the UUIDv7 `of`
    was. Those of up to 4096 numbers in a row are in their order."""
    digest = sha256(b"".join(each.bytes for each in (of, *others)) + number.to_bytes(8)).digest()
    random = int.from_bytes(digest[:8]) & ((1 << 62) - 1)
    return UUID(int=of.int >> 80 << 80 | 7 << 76 | (number & 0xFFF) << 64 | 2 << 62 | random)


def parse_id(text: str) -> UUID | None:
    """The UUID that `text` writes in its canonical form of 36 characters, or None."""
    return _parse_id(text) if len(text) == 36 else None


@lru_cache(maxsize=10_000)
def _parse_id(text: str) -> UUID | None:
    try:
        value = UUID(text)
    except ValueError:
        return None
    return value if str(value) == text.lower() else None
