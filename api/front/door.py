"""A request's way through the front door."""

import logging
import time
from collections import OrderedDict

from flask import Flask
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.front.asgi import Headers, Receive, Scope, Send
from api.front.callers import Callers
from api.front.checks import Checks, Watch
from api.front.held import Held
from api.front.hits import Hits, Kept, Key, answer_of, bytes_of, is_known, request_id_of, without_body
from api.front.intake import Disconnected, read_body
from api.front.outflow import TooSlow, send_answer, send_bytes, send_file, send_problem, unanswered
from api.front.slots import Priority, Slots
from api.front.tally import Tally
from api.front.threads import Finished, FlaskThreads
from api.front.waits import Waits
from api.limits import Limit, Limits, LocalCounts
from api.telemetry import observe
from config import Settings
from dues.errors import Problem
from dues.reads.freshness import fresh_cache
from dues.reads.freshness.wire import Address
from dues.stores.access import Access

log = logging.getLogger("dues.front")

_ALIVE = b'{"status":"ok"}'
_JSON = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
# How long after it was checked what a caller may do is not asked for again.
_KNOWN_FOR_S = 0.25
# How many tokens a process remembers to be good, so that they do not count against their address.
_KNOWN_TOKENS = 10_000


class FrontDoor:
    """The ASGI application around a Flask application."""

    def __init__(self, app: Flask) -> None:
        settings: Settings = app.extensions["settings"]
        with app.app_context():
            cache = fresh_cache()
        self._generation = cache.poller.generation
        self._store = cache.store
        self._checks = Checks(
            Address.parse(settings.cache_redis_url), self._prefix, lambda key: settings.cache_key_prefix + key
        )
        self._hits = Hits(settings.cache_memory_bytes)
        self._callers = Callers()
        self._tally = Tally()
        self._server: tuple[Headers, bytes] = [], b""
        self._limits = Limits(settings.rate_limit)
        self._local = LocalCounts(settings.web_concurrency)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._threads = FlaskThreads(app, settings.web_threads)
        self._slots = Slots(settings.web_threads)
        self._held = Held(Waits(app, settings.max_waiting_clients), self._slots, self._threads)
        self._most_bytes = settings.max_body_bytes

    def _prefix(self, run_id: str) -> str | None:
        generation = self._generation()
        return None if generation is None else self._store.prefix(run_id, generation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/healthz" and scope["method"] in ("GET", "HEAD"):
            length = (b"content-length", str(len(_ALIVE)).encode())
            await send_answer(send, 200, [*_JSON, length], _ALIVE if scope["method"] == "GET" else b"")
            return
        began = time.perf_counter()
        try:
            if self._held.is_busy:
                await self._held.stand_back(scope)
            await self._serve(scope, receive, send)
        except Problem as problem:
            observe(scope["method"], "refused at the door", problem.status, time.perf_counter() - began)
            await send_problem(scope, send, problem)
        except (Disconnected, TooSlow):
            log.debug("a client went away, or took too long")

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A kept answer that is still fresh, or Flask's. Raises: Problem."""
        began = time.perf_counter()
        authorization, accepts, none_match, sent_id = _told(scope)
        key: Key | None = None
        kept: Kept | None = None
        if scope["method"] == "GET":
            key = self._hits.key_of(scope, authorization, accepts)
            kept = self._hits.find(key)
        caller = None if kept else self._callers.find(scope, authorization)
        limit = self._limits.of(scope["method"], scope["path"], authorization, _address(scope))
        known = kept or caller
        fresh, used = await self._check(scope, known.watch if known else None, limit, authorization)
        if kept and fresh:
            status = 304 if is_known(none_match, kept.headers) else 200
            await self._send_kept(send, kept, status, limit, used, request_id_of(sent_id), began)
            return
        access = caller.access if caller and fresh else None
        finished = self._held.recall(scope) or await self._ask_flask(scope, receive, access)
        if authorization is not None and finished.status < 300:
            self._remember(authorization)
        if finished.leftover.access and finished.leftover.access is not access:
            self._callers.keep(scope, authorization, finished.leftover.access)
        if key is not None:
            self._hits.keep(key, finished)
            if finished.leftover.proofs and is_known(none_match, finished.headers):
                finished.status, finished.headers, finished.body = 304, without_body(finished.headers), b""
        finished = await self._held.later(scope, receive, finished)
        finished.headers += _described(limit, used)
        if finished.leftover.file is not None:
            await send_file(send, finished.status, finished.headers, finished.leftover.file)
        else:
            await self._held.send(receive, send, finished)

    async def _check(
        self, scope: Scope, watch: Watch | None, limit: Limit | None, authorization: bytes | None
    ) -> tuple[bool, int]:
        """Whether what `watch` expects is so, and how much of the limit is used. Raises: TooManyRequests."""
        if not watch and not limit:
            return False, 0
        verdict = await self._checks.ask(watch, limit)
        if limit is None:
            return verdict.fresh, 0
        if authorization is not None and authorization not in self._known:
            by_address = self._limits.of_address(_address(scope))
            assert by_address
            self._count(by_address, (await self._checks.ask(None, by_address)).used)
        return verdict.fresh, self._count(limit, verdict.used)

    async def _send_kept(
        self,
        send: Send,
        kept: Kept,
        status: int,
        limit: Limit | None,
        used: int,
        request_id: bytes,
        began: float,
    ) -> None:
        seconds = time.perf_counter() - began
        self._tally.add(kept.route, status, seconds)
        if cycle := unanswered(send):
            lines = limit.lines(used) if limit else b""
            send_bytes(cycle, bytes_of(kept, status, self._server_lines(cycle), lines, request_id, seconds))
        else:
            headers, body = answer_of(kept, status, request_id, seconds)
            await send_answer(send, status, headers + _described(limit, used), body)

    def _server_lines(self, cycle: RequestResponseCycle) -> bytes:
        """uvicorn's own headers, which it makes anew each second."""
        if cycle.default_headers is not self._server[0]:
            self._server = cycle.default_headers, b"".join(b"%b: %b\r\n" % pair for pair in cycle.default_headers)
        return self._server[1]

    def _count(self, limit: Limit, used: int | None) -> int:
        if used is None:
            used = self._local.add(limit)
        if used > limit.policy.quota:
            raise limit.refusal(used)
        return used

    def _remember(self, authorization: bytes) -> None:
        """Its token was good a moment ago; should it be revoked since, only its counting changes."""
        self._known[authorization] = None
        if len(self._known) > _KNOWN_TOKENS:
            self._known.popitem(last=False)

    async def _ask_flask(self, scope: Scope, receive: Receive, access: Access | None) -> Finished:
        since = time.monotonic()
        # One byte more than is allowed: Flask then sees that there is too much, and refuses it in its turn.
        body = await read_body(scope, receive, self._most_bytes)
        async with self._slots.taken(priority_of(scope)):
            # A body or a line may have taken its time, in which a token may have been revoked.
            known = access if time.monotonic() - since < _KNOWN_FOR_S else None
            return await self._threads.call(scope, body, known)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._held.let_go_on_sigterm()
                # Starts the switch's reading, whose first answer is waited for: now, and not with the first request.
                self._generation()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                self._checks.close()
                self._tally.enter()
                await self._held.stop()
                return


def _described(limit: Limit | None, used: int) -> Headers:
    return [(name.lower().encode(), value.encode()) for name, value in limit.headers(used)] if limit else []


def _told(scope: Scope) -> tuple[bytes | None, bytes | None, bytes | None, bytes | None]:
    """The headers Authorization, Accept-Encoding, If-None-Match and X-Request-Id."""
    authorization = accepts = none_match = sent_id = None
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorization = value
        elif name == b"accept-encoding":
            accepts = value
        elif name == b"if-none-match":
            none_match = value
        elif name == b"x-request-id":
            sent_id = value
    return authorization, accepts, none_match, sent_id


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return f"a{client[0]}" if client else "a"


def priority_of(scope: Scope) -> Priority:
    """What is shed first under overload: feeds, then other reads, then what changes something or tells of it."""
    path: str = scope["path"]
    if scope["method"] not in ("GET", "HEAD") or path.startswith("/v1/jobs"):
        return Priority.WRITE
    return Priority.FEED if path in ("/v1/feed", "/v1/newsfeed") else Priority.READ
