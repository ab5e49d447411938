"""Writes made without Flask: by a caller who is known already, on a thread, as the route declares it.

Flask, which has the same declarations, serves all other callers. What it puts around each request is an eighth of what
a payment costs a thread (docs/decisions/0010-writes-without-flask.md).
"""

import time
from dataclasses import dataclass
from uuid import UUID

from flask import Flask

from api.app import MODULES
from api.compress import SMALLEST, choose_encoding, compress, suffixed
from api.http import Reply, problem_of, problem_reply
from api.request import Request
from api.request_extras import Leftover
from api.routing import Route, write
from api.server.cached_response import request_id_of
from api.server.exchange import Visit
from api.server.metrics_buffer import Tally
from api.server.route_matcher import Paths
from api.server.send import headers_of
from api.server.thread_pool import Finished, FlaskThreads
from api.telemetry import is_verbose, log_request
from config import Settings
from dues.observability.logs import log_fields
from dues.observability.trace import accept_traceparent, tracing
from dues.postgres.statement_stats import Statements, counting_statements
from dues.stores.access import Access

_METHODS = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(slots=True)
class _Wanted:
    """A write that a request asks for."""

    route: Route
    ids: dict[str, UUID]
    access: Access
    sent: Request
    request_id: str


class Writes:
    """For one event loop."""

    def __init__(self, app: Flask, threads: FlaskThreads, tally: Tally) -> None:
        settings: Settings = app.extensions["settings"]
        self._app, self._threads, self._tally = app, threads, tally
        self._slow_s = settings.slow_request_s
        routes = [route for module in MODULES for route in module.all if not route.bearer_scope]
        self._paths = {method: Paths(route for route in routes if route.method == method) for method in _METHODS}

    async def make(self, visit: Visit, body: bytes, access: Access) -> Finished | None:
        """The answer to a write by whom may do what `access` says at this moment; None: Flask is to give it."""
        paths = self._paths.get(visit.method)
        named = paths.find(visit.path) if paths else None
        if named is None:
            return None
        began = time.perf_counter()
        request_id = visit.request_id = request_id_of(visit.request_id)
        sent = _sent(visit, body, access)
        wanted = _Wanted(*named, access, sent, request_id.decode())
        reply, statements = await self._threads.hand(lambda: self._run(wanted, began))
        seconds = time.perf_counter() - began
        self._tally.add(visit.method, wanted.route.path, reply.status, seconds)
        self._tally.add_statements(statements.count, statements.seconds)
        own = [(b"x-request-id", request_id), (b"x-request-duration", b"%.6f" % seconds)]
        assert sent.leftover
        return Finished(reply.status, headers_of(reply) + own, reply.body or b"", sent.leftover)

    def _run(self, wanted: _Wanted, began: float) -> tuple[Reply, Statements]:
        """On a thread."""
        sent, route = wanted.sent, wanted.route
        trace = accept_traceparent(sent.header("traceparent"))
        fields = log_fields(request_id=wanted.request_id)
        with self._app.app_context(), fields, tracing(trace), counting_statements() as statements:
            try:
                reply = write(route, wanted.ids, wanted.access, sent)
            except Exception as error:
                reply = problem_reply(problem_of(error), sent.path, wanted.request_id)
            _compress(reply, sent.header("accept-encoding"))
            seconds = time.perf_counter() - began
            if seconds > self._slow_s or is_verbose():
                log_request(
                    sent.method,
                    route.path,
                    sent.path,
                    reply.status,
                    seconds,
                    queries=statements.count,
                    db_s=statements.seconds,
                    slow=seconds > self._slow_s,
                )
        return reply, statements


def _sent(visit: Visit, body: bytes, access: Access) -> Request:
    headers: dict[str, str] = {}
    for raw_name, raw_value in visit.scope["headers"]:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    query = visit.scope["query_string"].decode("latin-1")
    return Request(visit.method, visit.path, query, headers.get, lambda: body, Leftover(access))


def _compress(reply: Reply, accept: str | None) -> None:
    """As api/compress.py does it of Flask's answers."""
    if reply.body is None:
        return
    reply.headers.setdefault("Vary", "Accept-Encoding")
    encoding = choose_encoding(accept) if accept and len(reply.body) >= SMALLEST else None
    if encoding:
        reply.body = compress(reply.body, encoding)
        reply.headers["Content-Encoding"] = encoding
        if etag := reply.headers.get("ETag"):
            reply.headers["ETag"] = suffixed(etag, encoding)
