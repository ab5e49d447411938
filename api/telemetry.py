"""What every answer tells of its request, and what is measured and logged of it; once for all who serve requests."""

import logging
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from api.limits import Limit, Used
from api.prefer import preferred_wait
from api.reply import Reply
from api.request import Request
from dues.cdn import is_shared
from dues.observability.logs import log_fields
from dues.observability.metrics import HTTP_REQUESTS
from dues.observability.trace import Value, accept_traceparent, end_span

log = logging.getLogger("dues.requests")

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_SAFE = ("GET", "HEAD")

# What belongs to one answer alone, and so is kept with none that is given again.
EACH_TIME = frozenset(("x-request-id", "x-request-duration", "server-timing", "ratelimit", "ratelimit-policy"))


def own_lines(
    request: Request, reply: Reply, seconds: float, limited: tuple[Limit, Used] | None, *, timed: bool = True
) -> bytes:
    """The header fields that are this answer's own, as they go over the wire: its limit, id, duration (`seconds`) and,
    of a declared read (`timed`), what PostgreSQL took of it.

    An answer that caches in front may give to others has none of them: they would take one caller's for their own.
    """
    if is_shared(reply.headers.get("Cache-Control", "")):
        return b""
    timing = _timing(reply.hit, reply.queries, reply.db_s, seconds) if timed and request.method in _SAFE else b""
    return own_fields(request.id, seconds, limited) + timing


def own_fields(request_id: str, seconds: float, limited: tuple[Limit, Used] | None) -> bytes:
    lines = b"x-request-id: %b\r\nx-request-duration: %.6f\r\n" % (request_id.encode(), seconds)
    return limited[0].lines(limited[1]) + lines if limited else lines


def _timing(hit: bool, queries: int, db_s: float, seconds: float) -> bytes:
    """Server-Timing, whose durations are in milliseconds. `app` is all that was not the database."""
    return b'server-timing: cache;desc=%b, db;dur=%.2f;desc="%d %b", app;dur=%.2f\r\n' % (
        b"hit" if hit else b"miss",
        db_s * 1000,
        queries,
        b"query" if queries == 1 else b"queries",
        (seconds - db_s) * 1000,
    )


def hit_lines(request_id: str, seconds: float, limited: tuple[Limit, Used] | None) -> bytes:
    """The same of an answer that this process had."""
    return own_fields(request_id, seconds, limited) + (
        b'server-timing: cache;desc=hit, db;dur=0.00;desc="0 queries", app;dur=%.2f\r\n' % (seconds * 1000)
    )


@lru_cache
def route_template(rule: str) -> str:
    """A path as it was declared, of Flask's rule for it, e.g. `/v1/stores/{store_id}`."""
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def observe_all(method: str, route: str, status: int, seconds: Sequence[float]) -> None:
    """Count many answered requests of one kind at once, which the client of Prometheus has no way of its own for.
    `route` is a template, never a path."""
    histogram = HTTP_REQUESTS.labels(method, route, str(status))
    histogram._sum.inc(sum(seconds))
    for bucket, count in Counter(bisect_left(histogram._upper_bounds, each) for each in seconds).items():
        histogram._buckets[bucket].inc(count)


@lru_cache(maxsize=1024)
def observer(method: str, route: str, status: int) -> Callable[[float], None]:
    """What counts answered requests of one kind by their seconds; `method` is one of `method_label()`."""
    return HTTP_REQUESTS.labels(method, route, str(status)).observe


def method_label(method: str) -> str:
    """A method as metrics have it: few, whatever clients make up."""
    return method if method in _METHODS else "other"


def trace_of(request: Request) -> str:
    """The traceparent of what is done for a request."""
    return request.span or accept_traceparent(request.header("traceparent"))


def record_answered(request: Request, route: str, status: int, seconds: float) -> None:
    """Record the span of an answered request, where it has one. `route` is a template, never a path."""
    if request.span is None:
        return
    method = method_label(request.method)
    attributes: dict[str, Value] = {
        "http.request.method": method,
        "http.route": route,
        "http.response.status_code": status,
    }
    parent = request.header("traceparent")
    end_span(f"{method} {route}", "server", request.span, parent, seconds, attributes, failed=status >= 500)


def log_answered(request: Request, route: str, reply: Reply, seconds: float, held_s: float, slow_s: float) -> None:
    """The line of an answered request: a warning where it took more than `slow_s` seconds beside those for which it was
    held as its client wanted, else only where LOG_LEVEL is debug, since a line costs more than anything else here, and
    the metrics count all requests. `held_s` may be more than its client wanted."""
    # What it wanted is read only where it matters.
    slow = seconds > slow_s and seconds - min(held_s, preferred_wait(request.header("prefer"))) > slow_s
    if not (slow or log.isEnabledFor(logging.DEBUG)):
        return
    told: dict[str, object] = {
        "method": request.method,
        "route": route,
        "path": request.path,
        "status": reply.status,
        "duration_s": round(seconds, 6),
        "queries": reply.queries,
        "db_s": round(reply.db_s, 6),
    }
    with log_fields(request_id=request.id):
        log.log(logging.WARNING if slow else logging.DEBUG, "slow request" if slow else "request", extra=told)
