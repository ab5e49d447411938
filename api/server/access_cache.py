"""What callers may do, as Flask found it when they last came. Where it still holds, Flask need not look it up again.

It is checked as kept answers are: with Redis, after the request has arrived, in the question that also counts the
request against its limit. So a miss asks Redis no more for the caller than a hit does.
"""

import time
from collections import OrderedDict
from dataclasses import dataclass

from api.server.asgi import Scope
from dues.reads.freshness import ValidatorSet
from dues.stores.access import Access

_STORES = "/v1/stores/"
# A caller takes about two kilobytes.
_MOST_CALLERS = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """`watch`: what must still hold; None where nothing can change."""

    access: Access
    watch: ValidatorSet | None


_ANYBODY = Caller(Access(None), None)


class Callers:
    """Those that one process remembers, the ones who were found out last."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[bytes | None, str], Caller] = OrderedDict()

    def find(self, scope: Scope, authorization: bytes | None) -> Caller | None:
        """Who asks, for what the path names; whether it still holds is yet to be found out."""
        store = _store_in(scope["path"])
        if authorization is None and not store:
            return _ANYBODY
        found = self._known.get((authorization, store))
        return found if found and time.time() < found.access.ends_at else None

    def keep(self, scope: Scope, authorization: bytes | None, access: Access) -> None:
        watch = ValidatorSet.over(access.validators) if access.validators else None
        if watch is None:
            return
        key = authorization, _store_in(scope["path"])
        self._known[key] = Caller(access, watch)
        self._known.move_to_end(key)
        if len(self._known) > _MOST_CALLERS:
            self._known.popitem(last=False)


def _store_in(path: str) -> str:
    """The store that a path names, on which access depends, as it is written there; "" where it names none."""
    return path[len(_STORES) :].partition("/")[0] if path.startswith(_STORES) else ""
