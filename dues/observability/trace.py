"""The W3C `traceparent` of what is being done: a request's goes into the jobs it enqueues, and on into theirs.

It is passed on as it came, since Dues keeps no spans of its own; where a request brings none, one begins here.
"""

import random
import re
from contextvars import ContextVar

from dues.context import Scoped

# Trace Context, 3.2: ids of zeros only are void; what follows the flags belongs to versions after 00.
_TRACEPARENT = re.compile(
    r"(?P<version>(?!ff)[0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?P<later>-[!-~]{0,200})?"
)

_traceparent: ContextVar[str | None] = ContextVar("traceparent", default=None)


def current_trace() -> str | None:
    return _traceparent.get()


def trace_id() -> str | None:
    """The 32 hexadecimal digits that all parts of what is being done share."""
    _, _, rest = (_traceparent.get() or "").partition("-")
    return rest[:32] or None


def accept_traceparent(header: str | None) -> str:
    """A client's `traceparent` where it is valid, else that of a new trace."""
    found = _TRACEPARENT.fullmatch(header or "")
    if found and not (found["version"] == "00" and found["later"]):
        return found[0]
    # These tell apart and keep no secret; asking the system for its randomness would cost ten times as much.
    return f"00-{random.getrandbits(128) or 1:032x}-{random.getrandbits(64) or 1:016x}-00"


def tracing(traceparent: str | None) -> Scoped[str | None]:
    """What the block does, and the jobs it enqueues, belong to `traceparent`."""
    return Scoped(_traceparent, traceparent)
