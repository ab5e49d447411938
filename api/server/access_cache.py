"""What callers may do, as a thread found it when they last came. Where it still holds, it is not looked up again.

It is checked as kept answers are: with Redis, after the request has arrived, in the question that also counts the
request against its limit. So a miss asks Redis no more for the caller than a hit does.
"""

import time
from dataclasses import dataclass
from uuid import UUID

from api.server.lru import Lru
from dues.reads.freshness.validator import ValidatorSet
from dues.stores.access import Access

# A caller takes about two kilobytes, and its token.
_SIZE = 2000
_MOST_BYTES = 20_000_000


@dataclass(frozen=True, slots=True)
class Caller:
    """`validators`: what must still hold; None where nothing can change."""

    access: Access
    validators: ValidatorSet | None


_ANYBODY = Caller(Access(None), None)


class AccessCache:
    """The callers that one process remembers, each where it was found out: in a store, or in none."""

    def __init__(self) -> None:
        self._known: Lru[Caller] = Lru(_MOST_BYTES)

    def find(self, token: str | None, store_id: UUID | None) -> Caller | None:
        """The remembered caller; whether what is remembered still holds has yet to be checked."""
        if token is None and store_id is None:
            return _ANYBODY
        found = self._known.get((token, store_id))
        return found if found and time.monotonic() < found.access.expires_at else None

    def keep(self, token: str | None, access: Access) -> None:
        validators = ValidatorSet.over(access.validators) if access.validators else None
        if validators is not None:
            self._known.put((token, access.store_id), Caller(access, validators), _SIZE + len(token or ""))
