"""What is known of every request: its id and trace, how long it took, and what it asked of the database.

The first hooks to be registered, so that they begin before all others and see the answer as it goes out.
"""

import logging
import random
import re
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

from flask import Flask, Response, g, request

from dues.observability.logs import log_fields
from dues.observability.metrics import DB_SECONDS, DB_STATEMENTS, HTTP_REQUESTS
from dues.observability.trace import accept_traceparent, tracing
from dues.postgres.statement_stats import Statements, counting_statements

log = logging.getLogger("dues.requests")

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:+/=-]{1,128}")
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def init_telemetry(app: Flask, slow_s: float) -> None:
    """Requests slower than `slow_s` seconds are logged as warnings; all others only where LOG_LEVEL is debug, since a
    line costs more than anything else here, and the metrics count them."""
    app.before_request(_begin)
    app.teardown_request(_end)

    @app.after_request
    def report(response: Response) -> Response:
        # Each look through one of Flask's proxies costs a microsecond.
        environ, known, headers = request.environ, g._get_current_object(), response.headers
        method = environ["REQUEST_METHOD"]
        seconds = time.perf_counter() - known.began_at
        statements: Statements = known.statements
        headers.add("X-Request-Id", known.request_id)
        headers.add("X-Request-Duration", f"{seconds:.6f}")
        if method in ("GET", "HEAD") and environ["PATH_INFO"].startswith("/v1/"):
            headers.add("Server-Timing", server_timing(seconds, statements, known.get("cache", "miss")))
        route = route_template()
        observe(method, route, response.status_code, seconds)
        DB_STATEMENTS.inc(statements.count)
        DB_SECONDS.inc(statements.seconds)
        _log(route, response.status_code, seconds, statements, slow_s)
        return response


def _begin() -> None:
    environ, known = request.environ, g._get_current_object()
    known.began_at = time.perf_counter()
    sent = environ.get("HTTP_X_REQUEST_ID", "")
    # It tells requests apart and keeps no secret.
    known.request_id = request_id = sent if _REQUEST_ID.fullmatch(sent) else f"{random.getrandbits(128):032x}"
    trace = accept_traceparent(environ.get("HTTP_TRACEPARENT"))
    known.entered = counting_statements(), log_fields(request_id=request_id), tracing(trace)
    known.statements, *_ = [setting.__enter__() for setting in known.entered]


def _end(error: BaseException | None) -> None:
    for setting in g.entered:
        setting.__exit__()


def route_template() -> str:
    """The present request's path as it was declared, e.g. `/v1/stores/{store_id}`: few, however many are made up."""
    rule = request.url_rule
    return _template(rule.rule) if rule else "unmatched"


@lru_cache
def _template(rule: str) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def observe(method: str, route: str, status: int, seconds: float) -> None:
    """Count an answered request. `route` is a template, never a path."""
    observer(method, route, status)(seconds)


def observe_all(method: str, route: str, status: int, seconds: Sequence[float]) -> None:
    """Count many answered requests of one kind at once, which the client of Prometheus has no way of its own for."""
    histogram = HTTP_REQUESTS.labels(method if method in _METHODS else "other", route, str(status))
    histogram._sum.inc(sum(seconds))
    for bucket, count in Counter(bisect_left(histogram._upper_bounds, each) for each in seconds).items():
        histogram._buckets[bucket].inc(count)


@lru_cache(maxsize=1024)
def observer(method: str, route: str, status: int) -> Callable[[float], None]:
    """What counts answered requests of one kind by their seconds."""
    return HTTP_REQUESTS.labels(method if method in _METHODS else "other", route, str(status)).observe


def server_timing(seconds: float, statements: Statements, cache: str = "miss") -> str:
    """The Server-Timing header; its durations are in milliseconds. `app` is all that was not the database."""
    queries = "1 query" if statements.count == 1 else f"{statements.count} queries"
    database, rest = statements.seconds * 1000, (seconds - statements.seconds) * 1000
    return f'cache;desc={cache}, db;dur={database:.2f};desc="{queries}", app;dur={rest:.2f}'


def _log(route: str, status: int, seconds: float, statements: Statements, slow_s: float) -> None:
    if seconds > slow_s or is_verbose():
        log_request(
            request.method,
            route,
            request.path,
            status,
            seconds,
            queries=statements.count,
            db_s=statements.seconds,
            slow=seconds > slow_s,
        )


def is_verbose() -> bool:
    """Whether every request is to be logged."""
    return log.isEnabledFor(logging.DEBUG)


def log_request(
    method: str,
    route: str,
    path: str,
    status: int,
    seconds: float,
    *,
    queries: int,
    db_s: float,
    slow: bool,
    **fields: object,
) -> None:
    """The line of an answered request; a warning where it was slow."""
    told: dict[str, object] = {
        "method": method,
        "route": route,
        "path": path,
        "status": status,
        "duration_s": round(seconds, 6),
        "queries": queries,
        "db_s": round(db_s, 6),
        **fields,
    }
    log.log(logging.WARNING if slow else logging.DEBUG, "slow request" if slow else "request", extra=told)
