"""In the directory: what counts against a caller of what the gateway asks.

A question whose answer is kept costs nothing, and counts for nothing: the request itself is counted where it is served.
What makes the directory work counts: a statement for it, a place for a new store, asking the cells about a job. As in
every Dues it counts for the user, or as long as nobody has found the token good, for the address.
"""

from uuid import UUID

from api.limits import Counter, KnownTokens, Limit, Limits, LocalCounts, Used
from api.request import Request
from dues.reads.freshness import fresh_cache


class Counting:
    """Of one process. `count()` and `give_back()` are for threads, in an application context; an event loop counts on
    what `limit_of()` says by itself."""

    def __init__(self, limits: Limits, local: LocalCounts) -> None:
        self._limits, self._local, self._known = limits, local, KnownTokens()

    def limit_of(self, request: Request) -> Limit | None:
        user_id = self._known.user_of(request.token) if request.token else None
        if user_id is None:
            return self._limits.of_address("default", request.address)
        return self._limits.of_user("default", user_id)

    def is_good(self, token: str, user_id: UUID) -> None:
        """The token is this user's, which counts from now on."""
        self._known.add(token, user_id)

    def count(self, request: Request) -> tuple[Limit, Used] | None:
        """Returns: what it counts on, and how much of that is used. Raises: TooManyRequests."""
        limit = self.limit_of(request)
        if limit is None:
            return None
        used = self._counter().add(limit)
        limit.require(used)
        return limit, used

    def was_of_another(self, limit: Limit, request: Request) -> bool:
        """Whether what was counted there has turned out not to be for the address to bear."""
        mine = self.limit_of(request)
        return mine is not None and mine.key != limit.key

    def give_back(self, limit: Limit, used: Used) -> None:
        self._counter().give_back(limit, used)

    def _counter(self) -> Counter:
        return Counter(fresh_cache().store, self._local)
