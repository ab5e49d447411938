"""Rate limits: how often a caller may ask, in fixed windows that all web processes count together in Redis.

A caller is a user, however many tokens that user has, or where no token is sent an address (of IPv6 its first 64 bits).
A token that this process does not know yet counts for its address, so that made-up tokens are no way around; once it is
found good that is given back, so that those behind one address do not use up each other's quota, and the request counts
for the user. Payments have half of the quota. What makes users and tokens has a tenth, and counts for the address
whoever asks. The header fields follow draft-ietf-httpapi-ratelimit-headers.

A window begins with a caller's first request and ends by Redis's clock, whatever the clocks of the web processes say.
Where Redis does not answer, each process counts for itself and lets its share of the quota through.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal, NamedTuple
from uuid import UUID

from api.client_address import network_of
from dues.errors import TooManyRequests
from dues.reads.freshness.store import Store
from dues.redis.wire import CacheAway

PolicyName = Literal["default", "payments", "login", "free"]

# How many callers' limits a process remembers, so as not to make them for each request, and how many tokens' users.
_PRESENT_LIMITS = 20_000
_KNOWN_TOKENS = 10_000


@dataclass(frozen=True)
class Policy:
    """So many requests in so many seconds; `name` is what clients see."""

    name: str
    quota: int
    window_s: int

    @property
    def described(self) -> str:
        return f'"{self.name}";q={self.quota};w={self.window_s}'


class Used(NamedTuple):
    """How many requests of a window are used up, the present one included, and in how many seconds it ends. `is_local`:
    this process has counted it, for itself."""

    requests: int
    ends_in_s: int
    is_local: bool = False


class Limit:
    """One caller's count under one policy. `key` is the counter's name in Redis, which tells nothing of the caller."""

    __slots__ = ("_lines", "key", "policy")

    def __init__(self, policy: Policy, caller: str) -> None:
        self.policy = policy
        self.key = f"limit:{policy.name}:{blake2b(caller.encode(), digest_size=16).hexdigest()}"
        self._lines = f'ratelimit-policy: {policy.described}\r\nratelimit: "{policy.name}";r='.encode()

    def lines(self, used: Used) -> bytes:
        """The header fields of an answer, as they go over the wire."""
        return b"%b%d;t=%d\r\n" % (self._lines, max(0, self.policy.quota - used.requests), used.ends_in_s)

    def require(self, used: Used) -> None:
        """Raises: TooManyRequests."""
        if used.requests > self.policy.quota:
            raise TooManyRequests(
                f"more than {self.policy.quota} requests in {self.policy.window_s} s",
                headers={"Retry-After": str(used.ends_in_s)},
            )


class Limits:
    """The policies that `RATE_LIMIT` makes, e.g. `600/60`; none where it is `off`."""

    def __init__(self, rate_limit: str) -> None:
        self._present: dict[tuple[str, object], Limit] = {}
        self._policies: dict[str, Policy] = {}
        if rate_limit != "off":
            quota, window_s = map(int, rate_limit.split("/"))
            shares = {"default": 1, "payments": 2, "login": 10}
            self._policies = {name: Policy(name, max(1, quota // share), window_s) for name, share in shares.items()}

    def of_user(self, policy: PolicyName, user_id: UUID) -> Limit | None:
        return self._limit(policy, user_id)

    def of_address(self, policy: PolicyName, address: str) -> Limit | None:
        return self._limit(policy, network_of(address))

    def _limit(self, policy_name: PolicyName, caller: object) -> Limit | None:
        found = self._present.get((policy_name, caller))
        if found is None:
            policy = self._policies.get(policy_name)
            if policy is None:
                return None
            if len(self._present) >= _PRESENT_LIMITS:
                self._present.clear()
            found = self._present[policy_name, caller] = Limit(policy, f"{type(caller).__name__} {caller}")
        return found


class LocalCounts:
    """Counts of one process, for as long as Redis does not answer."""

    def __init__(self, processes: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._processes, self._clock = processes, clock
        self._counts: dict[str, int] = {}
        self._ends_at = 0.0

    def give_back(self, limit: Limit) -> None:
        """Take back one request, if its window has not ended."""
        if self._clock() < self._ends_at:
            self.add(limit, -1)

    def add(self, limit: Limit, count: int = 1) -> Used:
        """How much of the whole quota is used, if every process sees as many requests as this one."""
        moment = self._clock()
        if moment >= self._ends_at:
            self._counts.clear()
            self._ends_at = moment + limit.policy.window_s
        self._counts[limit.key] = used = self._counts.get(limit.key, 0) + count
        return Used(used * self._processes, max(1, round(self._ends_at - moment)), is_local=True)


class Counter:
    """Counts requests on threads, in Redis or in this process."""

    def __init__(self, store: Store, local: LocalCounts) -> None:
        self._store, self._local = store, local

    def add(self, limit: Limit, count: int = 1) -> Used:
        try:
            requests, ends_in_s = self._store.count(limit.key, limit.policy.window_s, count)
            return Used(requests, max(1, ends_in_s))
        except CacheAway:
            return self._local.add(limit, count)

    def give_back(self, limit: Limit, used: Used) -> None:
        """Take back one request, where it was counted: Redis may have come or gone since. What Redis counted, and is
        not there to take back, ends with its window."""
        if used.is_local:
            self._local.give_back(limit)
            return
        with suppress(CacheAway):
            self._store.count(limit.key, limit.policy.window_s, -1)


class Allowed(NamedTuple):
    """How many of the requests that were counted at once are within their limit, and in how many seconds the window of
    the others ends."""

    requests: int
    ends_in_s: int = 0


def count_several(counter: Counter, limit: Limit | None, requests: int) -> tuple[Allowed, Used | None]:
    """Count so many requests at once, of which the first are allowed. Returns: how many, and the count."""
    if limit is None or requests < 1:
        return Allowed(requests), None
    used = counter.add(limit, requests)
    beyond = max(0, used.requests - limit.policy.quota)
    return Allowed(max(0, requests - beyond), used.ends_in_s), used


class KnownTokens:
    """The users of tokens that were found good a while ago; should one be revoked since, only its counting differs."""

    def __init__(self) -> None:
        self._users: OrderedDict[str, UUID] = OrderedDict()

    def user_of(self, token: str) -> UUID | None:
        return self._users.get(token)

    def add(self, token: str, user_id: UUID) -> None:
        self._users[token] = user_id
        if len(self._users) > _KNOWN_TOKENS:
            self._users.popitem(last=False)
