"""Flask as the host of the declared routes: `gunicorn wsgi:app` is a complete server, and its map is the map of routes.

A declared route's view hands the request to `answer()` (api/serving.py). What is not declared (the documentation,
health, metrics) is plain Flask, with the same limits, header fields and problem details around it.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from http import HTTPStatus
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import UUID

import ujson
from flask import Flask, Response, current_app, g
from flask import request as flask_request
from flask.json.provider import JSONProvider
from flask.sessions import NullSession, SessionInterface
from werkzeug.datastructures import Headers
from werkzeug.routing import Rule

from api.cells.counting import Counting
from api.cells.entrance import INTERNAL, Entrance
from api.client_address import Proxies
from api.compress import encode, pages_compressor
from api.cors import Cors
from api.http import conditional, problem_of, problem_reply
from api.limits import Allowed, Counter, KnownTokens, Limit, Limits, LocalCounts, PolicyName, Used, count_several
from api.reply import Reply
from api.request import OPERATORS, Request, join_fields, make_request, new_request_id
from api.route_matcher import RouteMatcher
from api.routing import Route, Routes
from api.serving import admit_upload, answer
from api.telemetry import log_answered, method_label, observer, own_fields, own_lines, record_answered, route_template
from api.thread_waiters import ThreadWaiters
from api.uploads import Upload
from config import Settings
from dues.cdn import is_shared
from dues.errors import BadRequest, NotFound
from dues.ids import parse_id
from dues.observability.metrics import DB_SECONDS, DB_STATEMENTS
from dues.reads.freshness import fresh_cache
from dues.stores.access import Access

# How much of a file is read at a time.
_PART = 256 * 1024
_APART = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_NOSNIFF = ("X-Content-Type-Options", "nosniff")


def init_flask_host(app: Flask, modules: Sequence[Routes]) -> None:
    """Register the declared routes with `app`, and have it answer as the contract says."""
    settings: Settings = app.extensions["settings"]
    app.url_rule_class = MatchedRule
    app.json = UJSONProvider(app)
    app.session_interface = NoSessions()
    app.url_map.strict_slashes = True
    # A path is served as it is spelt (api/request.py), never by way of a redirect to what it might have meant.
    app.url_map.merge_slashes = False
    host = FlaskHost(app, settings)
    app.extensions["counting"] = host.counting
    routes: dict[str, Route] = {}
    for module in modules:
        for route in module.all:
            endpoint = f"{module.name}.{route.handler.__name__}"
            routes[endpoint] = route
            app.add_url_rule(route.flask_rule, endpoint=endpoint, view_func=host.view_of(route), methods=[route.method])
    app.extensions["routes"] = routes
    app.wsgi_app = _without_upgrade(app.wsgi_app)  # type: ignore[method-assign]
    app.extensions["route_matcher"] = RouteMatcher(app)
    app.before_request(host.begin)
    app.after_request(host.end)
    app.register_error_handler(Exception, host.fail)


class MatchedRule(Rule):
    """A rule that Flask matches paths with, and seldom builds a URL from. Werkzeug writes and compiles two functions to
    build URLs with as each rule is added, two thirds of the time that it takes to make the application: here they are
    compiled when they are first called."""

    def _compile_builder(self, append_unknown: bool = True) -> Callable[..., tuple[str, str]]:
        compiled: list[Callable[..., tuple[str, str]]] = []

        def build(rule: Rule, **values: Any) -> tuple[str, str]:
            if not compiled:
                compiled.append(super(MatchedRule, self)._compile_builder(append_unknown))
            return compiled[0](rule, **values)

        return build


def _without_upgrade(wsgi_app: Callable[..., Any]) -> Callable[..., Any]:
    """A wish for another protocol is passed over (RFC 9110, 7.8); werkzeug would look for a route of WebSockets."""

    def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        environ.pop("HTTP_UPGRADE", None)
        return wsgi_app(environ, start_response)

    return call


class UJSONProvider(JSONProvider):
    """ujson as Flask's JSON. NaN is refused; what JSON does not know (dates, UUIDs) must be text already."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        return ujson.dumps(obj, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False)

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        return ujson.loads(s)


class NoSessions(SessionInterface):
    """Dues sets no cookies, so no request is searched for one."""

    _none = NullSession()

    def open_session(self, app: Flask, request: Any) -> NullSession:
        return self._none


# Where a server that has read and counted the request itself says so (api/server/thread_pool.py).
HOSTED = "dues.hosted"


class Hosted(NamedTuple):
    """A request that another host hands on: when it began (`time.perf_counter()`), and what it counts against."""

    request: Request
    began: float
    limited: tuple[Limit, Used] | None


class FlaskHost:
    """What Flask does around its views for one application."""

    def __init__(self, app: Flask, settings: Settings) -> None:
        self._settings, self._compress = settings, pages_compressor(app)
        self._proxies = Proxies(settings.forwarded_allow_ips)
        self._limits, self._local = Limits(settings.rate_limit), LocalCounts(settings.web_concurrency)
        self._known = KnownTokens()
        self.counting = Counting(self._limits, self._local)
        self._cors = Cors(settings.cors_origins)
        self._has_cells = bool(settings.cell or settings.cells)
        self._entrance = Entrance(settings) if settings.cell else None
        # Half of the threads may hold a client that waits, so that others are served meanwhile.
        self._waiters = app.extensions["thread_waiters"] = ThreadWaiters(app, settings.web_threads // 2)

    def begin(self) -> Response | None:
        """Read the request, and count it where no declared route does; or answer it, where a browser asks what a page
        may send. Raises: Problem."""
        hosted: Hosted | None = flask_request.environ.get(HOSTED)
        if hosted is not None:
            g.request, g.began_at, g.limited = hosted
            return None
        g.began_at, g.limited = time.perf_counter(), None
        g.request = request = _read_request(flask_request.environ, self._proxies)
        if preflight := self._cors.preflight(request):
            return _flask_response(preflight)
        # What operators ask, and the question what a path allows; all else counts.
        is_internal = self._has_cells and request.path.startswith(INTERNAL)
        is_free = request.path in OPERATORS or request.method == "OPTIONS" or is_internal
        if flask_request.endpoint not in current_app.extensions["routes"] and not is_free:
            self._count(self._limits.of_address("default", request.address))
        if not request.path:
            raise NotFound("there is no such resource")
        if self._entrance and (unwritten := self._entrance.check(request)):
            self._entrance.write(unwritten)
        return None

    def view_of(self, route: Route) -> Callable[..., Response]:
        def view(**texts: str) -> Response:
            return self._serve(route, {name: parse_id(text) for name, text in texts.items()})

        view.__name__ = route.handler.__name__
        return view

    def _serve(self, route: Route, ids: dict[str, UUID | None]) -> Response:
        request: Request = g.request
        by_address = self._limits.of_address(route.limit, request.address)
        token = None if route.limit == "login" else request.token
        user_id = self._known.user_of(token) if token else None
        self._count(self._limits.of_user(route.limit, user_id) if user_id else by_address)

        def count(access: Access) -> None:
            """A token that was not known has turned out to be good."""
            if token and access.actor and user_id is None:
                if g.limited and HOSTED not in flask_request.environ:
                    Counter(fresh_cache().store, self._local).give_back(*g.limited)
                self._known.add(token, access.actor.user_id)
                self._count(self._limits.of_user(route.limit, access.actor.user_id))

        def count_parts(policy: PolicyName, access: Access, requests: int) -> Allowed:
            actor, limits = access.actor, self._limits
            limit = limits.of_user(policy, actor.user_id) if actor else limits.of_address(policy, request.address)
            allowed, used = count_several(Counter(fresh_cache().store, self._local), limit, requests)
            if limit and used and policy == route.limit:
                g.limited = limit, used
            return allowed

        if route.uploads:
            return self._serve_upload(route, ids, admit_upload(route, ids, request, count))
        body = self._read_body()
        reply = answer(route, ids, request, body, count=count, count_several=count_parts)
        return self._response(self._hold(reply) or answer(route, ids, request), route.path)

    def _serve_upload(self, route: Route, ids: dict[str, UUID | None], access: Access) -> Response:
        with closing(Upload()) as upload:
            upload.take(self._read_parts())
            reply = answer(route, ids, g.request, upload, known=access)
        return self._response(self._hold(reply) or reply, route.path)

    def _hold(self, reply: Reply) -> Reply | None:
        """The reply after the waiting that `reply` asks for, where threads can wait; None where it has to be made
        anew."""
        if not flask_request.environ.get("wsgi.multithread"):
            return reply
        return self._waiters.hold(g.request, reply)

    def _read_parts(self) -> Iterator[bytes]:
        """Raises: BadRequest."""
        size = 0
        while part := self._read(_PART):
            size += len(part)
            yield part
        _require_whole(size)

    def _read_body(self) -> bytes:
        """Raises: BadRequest."""
        most = self._settings.max_body_bytes
        body = self._read(most + 1)
        if len(body) <= most:
            _require_whole(len(body))
        return body

    def _read(self, most: int) -> bytes:
        """At most so much of the body. Raises: BadRequest."""
        try:
            return flask_request.stream.read(most)
        except Exception:
            # Each server has its own errors for chunks that are none, and for a client that leaves in the middle.
            _force_close(flask_request.environ)
            raise BadRequest("the body cannot be read", code="malformed_request") from None

    def _count(self, limit: Limit | None) -> None:
        """Raises: TooManyRequests."""
        if limit is None or HOSTED in flask_request.environ:
            return
        used = Counter(fresh_cache().store, self._local).add(limit)
        g.limited = limit, used
        limit.require(used)

    def _response(self, reply: Reply, route: str) -> Response:
        """A declared route's reply as Flask's response."""
        request: Request = g.request
        reply = conditional(request, reply)
        seconds = time.perf_counter() - g.began_at
        DB_STATEMENTS.inc(reply.queries)
        DB_SECONDS.inc(reply.db_s)
        log_answered(request, route, reply, seconds, g.get("held_s", 0.0), self._settings.slow_request_s)
        own = own_lines(request, reply, seconds, g.limited)
        g.is_finished = True
        observer(method_label(request.method), route, reply.status)(seconds)
        record_answered(request, route, reply.status, seconds)
        return _flask_response(reply, own)

    def fail(self, error: Exception) -> Response:
        """Problem details for what is raised outside of a declared route."""
        request: Request | None = g.get("request")
        reply = problem_reply(problem_of(error), request, g.setdefault("request_id", new_request_id()))
        return _flask_response(reply)

    def end(self, response: Response) -> Response:
        """Around what is not declared: the fields that all answers have."""
        if HOSTED not in flask_request.environ:
            for name, value in _pairs(self._cors.lines(flask_request.headers.get("Origin"))):
                response.headers.add(name, value)
        if g.get("is_finished"):
            return response
        response = self._compress.after_request(response)
        if flask_request.method == "OPTIONS" and response.status_code == HTTPStatus.OK:
            # Flask's own answer, which is empty and calls itself HTML.
            response.headers.pop("Content-Type", None)
        request: Request | None = g.get("request")
        rule = flask_request.url_rule
        route, seconds = route_template(rule.rule) if rule else "unmatched", time.perf_counter() - g.began_at
        request_id = request.id if request else g.setdefault("request_id", new_request_id())
        if not is_shared(response.headers.get("Cache-Control", "")):
            for name, value in _pairs(own_fields(request_id, seconds, g.limited)):
                response.headers[name] = value
        if HOSTED not in flask_request.environ:
            response.headers.setdefault(*_NOSNIFF)
        observer(method_label(flask_request.method), route, response.status_code)(seconds)
        if request:
            record_answered(request, route, response.status_code, seconds)
        return response


def _require_whole(size: int) -> None:
    """A server may take what has come of a body for the whole, though its client has left in the middle of it. Raises:
    BadRequest."""
    if size < (flask_request.content_length or 0):
        _force_close(flask_request.environ)
        raise BadRequest("the body ended before its end", code="malformed_request")


def respond(reply: Reply) -> Response:
    """A reply to Flask's present request, as a page that is not declared gives it: compressed, and conditional."""
    request: Request = g.request
    encode(request, reply)
    return _flask_response(conditional(request, reply))


def _flask_response(reply: Reply, own: bytes = b"") -> Response:
    content: Any = (reply.body or b"") if reply.file is None else reply.file
    response = Response(content, reply.status, direct_passthrough=reply.file is not None)
    nosniff = [] if HOSTED in flask_request.environ else [_NOSNIFF]
    response.headers = Headers([*reply.fields(), *nosniff, *_pairs(own)])
    return response


def _force_close(environ: dict[str, Any]) -> None:
    """Have gunicorn use a connection no more, where nobody can tell what follows on it."""
    request = getattr(getattr(environ["wsgi.input"], "reader", None), "req", None)
    if request is not None:
        request.force_close()


def _pairs(lines: bytes) -> list[tuple[str, str]]:
    """Header fields of the form that goes over the wire."""
    parts = [line.partition(": ") for line in lines.decode("latin-1").splitlines()]
    return [(name.title(), value) for name, _, value in parts]


def _read_request(environ: dict[str, Any], proxies: Proxies) -> Request:
    """The request of a WSGI environment (PEP 3333). Raises: Problem."""
    fields = join_fields(
        (_APART.get(key) or key[5:].replace("_", "-").lower(), value)
        for key, value in environ.items()
        if key.startswith("HTTP_") or (key in _APART and value)
    )
    target = _target(environ)
    address = proxies.client(environ.get("REMOTE_ADDR") or "", fields.get("x-forwarded-for"))
    return make_request(environ["REQUEST_METHOD"], target, fields, address, begins=True)


def _target(environ: dict[str, Any]) -> str:
    """As it was written, where the server tells that, so that all of it is read in one place (`read_target()`); else
    put together again. Raises: BadRequest for bytes that no target has (RFC 9112, 3.2), which some servers pass on."""
    target = environ.get("RAW_URI") or quote(environ["PATH_INFO"], encoding="latin-1")
    query = environ.get("QUERY_STRING")
    if query and "?" not in target:
        # From who tells the path alone as it was written, as werkzeug's client for tests does.
        target = f"{target}?{query}"
    if not _VISIBLE.fullmatch(target):
        raise BadRequest("this is not HTTP/1.1", code="malformed_request")
    return target
