"""Rate limits: how often a caller may ask, in fixed windows that all web processes count together in Redis.

A caller is a token, or where none is sent an address. A token that this process has not found good yet counts against
its address too, so that made-up tokens are no way around; once it is found good, that is given back, so that those
behind one address do not use up each other's quota. Payments have half of the quota. What makes users and tokens has a
tenth, and counts for the address whoever asks, since each new token is a new caller. The headers follow
draft-ietf-httpapi-ratelimit-headers.

Where Redis does not answer, each process counts for itself and lets its share of the quota through.
"""

import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import blake2b

from flask import Flask, Response, g, request

from api.request_extras import DOOR
from config import Settings
from dues.cdn import SHARED
from dues.errors import TooManyRequests
from dues.reads.freshness import fresh_cache
from dues.redis.wire import CacheAway

# How many callers' limits a process remembers, so as not to make them for each request.
_PRESENT_LIMITS = 20_000
_MAKERS = ("/v1/users", "/v1/tokens")
# What counts against no limit. All else does, whatever it is.
_FREE = ("/healthz",)
# How many tokens a process remembers to be good.
_GOOD_TOKENS = 10_000


@dataclass(frozen=True)
class Policy:
    """So many requests in so many seconds; `name` is what clients see."""

    name: str
    quota: int
    window_s: int

    @cached_property
    def described(self) -> str:
        return f'"{self.name}";q={self.quota};w={self.window_s}'

    @cached_property
    def word(self) -> bytes:
        return self.name.encode()

    @cached_property
    def line(self) -> bytes:
        return b"ratelimit-policy: %b\r\n" % self.described.encode()


class Limit:
    """One caller's count under one policy, in the window that ends at `ends_at` (seconds since 1970).

    `key` is the counter's name in Redis; another one in each window. `caller` tells nothing of the token.
    """

    __slots__ = ("caller", "ends_at", "key", "policy")

    def __init__(self, policy: Policy, caller: str, ends_at: int) -> None:
        self.policy = policy
        self.caller = caller
        self.ends_at = ends_at
        self.key = f"limit:{policy.name}:{caller}:{ends_at}"

    def remaining(self, used: int) -> int:
        return max(0, self.policy.quota - used)

    @property
    def is_of_token(self) -> bool:
        """Whether it counts for a token, and not for an address."""
        return self.caller.startswith("t")

    def headers(self, used: int) -> list[tuple[str, str]]:
        policy, left = self.policy, max(1, round(self.ends_at - time.time()))
        return [
            ("RateLimit-Policy", policy.described),
            ("RateLimit", f'"{policy.name}";r={self.remaining(used)};t={left}'),
        ]

    def pairs(self, used: int) -> list[tuple[bytes, bytes]]:
        """The same as they go over the wire."""
        return [(name.lower().encode(), value.encode()) for name, value in self.headers(used)]

    def lines(self, used: int) -> bytes:
        """The same as lines."""
        policy, left = self.policy, max(1, round(self.ends_at - time.time()))
        return b'%bratelimit: "%b";r=%d;t=%d\r\n' % (policy.line, policy.word, self.remaining(used), left)

    def refusal(self, used: int) -> TooManyRequests:
        """What whoever is over the quota is told."""
        wait = max(1, round(self.ends_at - time.time()))
        return TooManyRequests(
            f"more than {self.policy.quota} requests in {self.policy.window_s} s",
            headers={"Retry-After": str(wait), **dict(self.headers(used))},
        )


class Limits:
    """The policies that `RATE_LIMIT` makes, e.g. `600/60`; none where it is `off`."""

    def __init__(self, rate_limit: str) -> None:
        self.on = rate_limit != "off"
        self._present: dict[tuple[str, bytes | str], Limit] = {}
        if self.on:
            quota, window_s = map(int, rate_limit.split("/"))
            self._default = Policy("default", quota, window_s)
            self._payments = Policy("payments", max(1, quota // 2), window_s)
            self._login = Policy("login", max(1, quota // 10), window_s)

    def of(self, method: str, path: str, authorization: bytes | None, address: str) -> Limit | None:
        """The limit that a request counts against, or None where there is none."""
        if not self.on or path in _FREE:
            return None
        if method == "POST":
            if path in _MAKERS:
                return self._limit(self._login, address)
            if path.endswith("/payments"):
                return self._limit(self._payments, authorization or address)
        return self._limit(self._default, authorization or address)

    def of_address(self, address: str) -> Limit:
        """What a request with a token that is not known to be good counts against beside its own limit, which there
        must be."""
        return self._limit(self._default, address)

    def _limit(self, policy: Policy, caller: bytes | str) -> Limit:
        found = self._present.get((policy.name, caller))
        moment = time.time()
        if found is None or found.ends_at <= moment:
            if len(self._present) >= _PRESENT_LIMITS:
                self._present.clear()
            ends_at = (int(moment) // policy.window_s + 1) * policy.window_s
            found = self._present[policy.name, caller] = Limit(policy, _name_of(caller), ends_at)
        return found


def _name_of(caller: bytes | str) -> str:
    """Of an Authorization header (bytes) its token's, however the header is written; or of an address."""
    if isinstance(caller, str):
        return "a" + blake2b(caller.encode("latin-1", "replace"), digest_size=16).hexdigest()
    return "t" + blake2b(caller.partition(b" ")[2].strip() or caller, digest_size=16).hexdigest()


class GoodTokens:
    """Callers whose token was found good a while ago; should it be revoked since, only its counting differs."""

    def __init__(self) -> None:
        self._found: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, caller: str) -> bool:
        return caller in self._found

    def add(self, caller: str) -> None:
        self._found[caller] = None
        self._found.move_to_end(caller)
        if len(self._found) > _GOOD_TOKENS:
            self._found.popitem(last=False)


class LocalCounts:
    """Counts of one process, for as long as Redis does not answer; only the present windows are kept."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._counts: dict[str, int] = {}
        self._swept_at = 0.0

    def add(self, limit: Limit, count: int = 1) -> int:
        """How much of the whole quota is used, if every process sees as many requests as this one."""
        if time.monotonic() - self._swept_at > limit.policy.window_s:
            self._counts.clear()
            self._swept_at = time.monotonic()
        self._counts[limit.key] = used = self._counts.get(limit.key, 0) + count
        return used * self._processes


def init_limits(app: Flask) -> None:
    """Count requests that reach Flask without the front door, which counts its own."""
    settings: Settings = app.extensions["settings"]
    limits, local, good = Limits(settings.rate_limit), LocalCounts(settings.web_concurrency), GoodTokens()

    def count(limit: Limit) -> Callable[[], object]:
        """Count the present request. Returns: what takes that back. Raises: TooManyRequests."""
        store, life_s = fresh_cache().store, limit.policy.window_s + 1
        try:
            used = store.count(limit.key, life_s)
            take_back = partial(store.count, limit.key, life_s, -1)
        except CacheAway:
            used = local.add(limit)
            take_back = partial(local.add, limit, -1)
        g.limited = limit.headers(used)
        if used > limit.policy.quota:
            raise limit.refusal(used)
        return take_back

    @app.before_request
    def enforce() -> None:
        if DOOR in request.environ:
            return
        sent, address = request.headers.get("Authorization"), request.remote_addr or ""
        authorization = None if sent is None else sent.encode("latin-1", "replace")
        limit = g.limit = limits.of(request.method, request.path, authorization, address)
        if limit is None:
            return
        count(limit)
        if limit.is_of_token and limit.caller not in good:
            own = g.limited
            g.take_back = count(limits.of_address(address))
            g.limited = own

    @app.after_request
    def describe(response: Response) -> Response:
        # Of what a cache in front may keep, others would take one caller's limit for their own.
        if SHARED not in response.headers.get("Cache-Control", ""):
            for name, value in g.get("limited", ()):
                response.headers[name] = value
        if "take_back" in g and g.get("token_is_good"):
            good.add(g.limit.caller)
            with suppress(CacheAway):
                g.take_back()
        return response
