"""A request's way through the front door."""

import logging
import time
from functools import partial

from flask import Flask
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.http import problem_reply
from api.limits import GoodTokens, Limit, Limits, LocalCounts
from api.request import is_canonical
from api.server.access_cache import Caller, Callers
from api.server.admission import Slots
from api.server.asgi import Headers, Receive, Scope, Send
from api.server.cached_response import (
    Kept,
    bytes_of,
    etag_of,
    is_known,
    is_shared,
    log_read,
    own_lines,
    parts_of,
    request_id_of,
    without_body,
)
from api.server.declared import Writes
from api.server.exchange import Visit
from api.server.job_waiters import Waits
from api.server.long_poll import Held
from api.server.loop_reader import Wanted
from api.server.metrics_buffer import Tally
from api.server.reads import Reads
from api.server.redis_batch import UNKNOWN, CheckResult, Checks
from api.server.request_body import Disconnected, read_body
from api.server.response_cache import Hits, Key
from api.server.send import TooSlow, send_answer, send_bytes, send_file, send_reply, unanswered
from api.server.thread_pool import Finished, FlaskThreads
from api.telemetry import observe
from config import Settings
from dues.errors import NotFound, Problem, TooManyRequests, Unavailable
from dues.reads.freshness import fresh_cache
from dues.redis.wire import Address
from dues.stores.access import Access

log = logging.getLogger("dues.front")

_ALIVE = b'{"status":"ok"}'
_JSON = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
# How long after it was checked what a caller may do is not asked for again.
_KNOWN_FOR_S = 0.25


class FrontDoor:
    """The ASGI application around a Flask application."""

    def __init__(self, app: Flask) -> None:
        settings: Settings = app.extensions["settings"]
        with app.app_context():
            cache = fresh_cache()
        self._generation = cache.poller.generation
        self._checks = Checks(Address.parse(settings.cache_redis_url), cache.store, self._generation)
        self._hits = Hits(settings.cache_memory_bytes)
        self._callers = Callers()
        self._tally = Tally()
        self._reads = Reads(app, self._checks, self._tally)
        self._server: tuple[Headers, bytes] = [], b""
        self._limits = Limits(settings.rate_limit)
        self._local = LocalCounts(settings.web_concurrency)
        self._good = GoodTokens()
        self._threads = FlaskThreads(app, settings.web_threads)
        self._writes = Writes(app, self._threads, self._tally)
        self._slots = Slots(settings.web_threads)
        self._held = Held(Waits(app, settings.max_waiting_clients), self._slots, self._threads)
        self._most_bytes, self._slow_s = settings.max_body_bytes, settings.slow_request_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        visit = Visit(scope, receive, send)
        if visit.path == "/healthz" and visit.method in ("GET", "HEAD"):
            length = (b"content-length", str(len(_ALIVE)).encode())
            await send_answer(send, 200, [*_JSON, length], _ALIVE if visit.method == "GET" else b"")
            return
        try:
            if not is_canonical(visit.raw_path):
                raise NotFound("there is no such resource")
            if self._held.is_busy:
                await self._held.stand_back(scope)
            await self._serve(visit)
        except Problem as problem:
            await self._refuse(visit, problem)
        except (Disconnected, TooSlow):
            log.debug("a client went away, or took too long")
        except Exception:
            request_id = request_id_of(visit.request_id).decode()
            log.exception("unhandled at the door", extra={"request_id": request_id})
            visit.request_id = request_id.encode()
            await self._refuse(visit, Problem("something went wrong here; the request id finds it in the logs"))

    async def _refuse(self, visit: Visit, problem: Problem) -> None:
        observe(visit.method, "refused at the door", problem.status, time.perf_counter() - visit.began)
        request_id = request_id_of(visit.request_id)
        reply = problem_reply(problem, visit.path, request_id.decode())
        await send_reply(visit.send, reply, (b"x-request-id", request_id))

    async def _serve(self, visit: Visit) -> None:
        """A kept answer that is still fresh, or one made here, or Flask's. Raises: Problem."""
        key: Key | None = None
        kept: Kept | None = None
        caller: Caller | None = None
        wanted: Wanted | None = None
        if visit.method == "GET":
            key = self._hits.key_of(visit.scope, visit.authorization, visit.accepts)
            kept = self._hits.find(key)
        if kept is None:
            caller, wanted = self._expect(visit)
        verdict = await self._check(visit, kept or caller, wanted)
        if kept is not None:
            if verdict.fresh:
                await self._send(visit, kept)
                return
            caller, wanted = self._expect(visit)
            if caller and wanted:
                verdict = await self._checks.ask(caller.watch, None, wanted.plan)
        if caller and wanted and key:
            if verdict.fresh or caller.watch is None:
                made = await self._reads.make(wanted, verdict.found, key[3])
                if made:
                    # Kept here from the second time on: what is asked for once would drive out what comes again.
                    if made.validators and wanted.db_s < 0:
                        self._hits.put(key, made)
                    await self._send(visit, made, wanted)
                    return
            else:
                self._reads.let_go(wanted.plan, verdict.found)
        await self._pass_on(visit, key, caller.access if caller and verdict.fresh else None)

    def _expect(self, visit: Visit) -> tuple[Caller | None, Wanted | None]:
        """Who asks, as far as is known, and what for, where that can be answered here."""
        caller = self._callers.find(visit.scope, visit.authorization)
        if caller is None or visit.method != "GET":
            return caller, None
        return caller, self._reads.plan(visit.scope, caller, visit.priority)

    async def _check(self, visit: Visit, known: Kept | Caller | None, wanted: Wanted | None) -> CheckResult:
        """Whether what is known still holds, and what is kept of the answer that is wanted. Counts the request against
        its limit. Raises: TooManyRequests."""
        address = "" if visit.authorization and visit.method != "POST" else visit.address
        limit = visit.limit = self._limits.of(visit.method, visit.path, visit.authorization, address)
        watch, reading = known.watch if known else None, wanted.plan if wanted else None
        if watch is None and limit is None and reading is None:
            return UNKNOWN
        verdict = await self._checks.ask(watch, limit, reading)
        if limit is None:
            return verdict
        try:
            visit.used = self._count(limit, verdict.used)
            # What is known of a caller and still holds has his token among it.
            if not verdict.fresh and limit.is_of_token and limit.caller not in self._good:
                await self._count_against_address(visit)
        except TooManyRequests:
            if reading:
                self._reads.let_go(reading, verdict.found)
            raise
        return verdict

    async def _pass_on(self, visit: Visit, key: Key | None, access: Access | None) -> None:
        """Have a thread answer, with Flask or without. Raises: Problem."""
        scope, receive, send = visit.scope, visit.receive, visit.send
        try:
            finished = self._held.recall(scope) or await self._ask_a_thread(visit, access)
        except Unavailable:
            # Nobody has looked at its token.
            if visit.take_back:
                visit.take_back()
            raise
        if visit.take_back and visit.limit and finished.leftover.access:
            self._good.add(visit.limit.caller)
            visit.take_back()
        if finished.leftover.access and finished.leftover.access is not access:
            self._callers.keep(scope, visit.authorization, finished.leftover.access)
        if key is not None:
            self._hits.keep(key, finished)
            if finished.leftover.validators and is_known(visit.none_match, etag_of(finished.headers)):
                finished.status, finished.headers, finished.body = 304, without_body(finished.headers), b""
        finished = await self._held.later(scope, receive, finished)
        if not is_shared(finished.headers):
            finished.headers += visit.limit_headers()
        if finished.leftover.file is not None:
            await send_file(send, finished.status, finished.headers, finished.leftover.file)
        else:
            await self._held.send(receive, send, finished)

    async def _send(self, visit: Visit, kept: Kept, wanted: Wanted | None = None) -> None:
        """Send what was kept, or what was `wanted` and has been made just now."""
        status = 304 if visit.none_match and is_known(visit.none_match, kept.etag) else 200
        if kept.is_shared:
            # Others would take one caller's limit for their own.
            visit.limit = None
        seconds, db_s = time.perf_counter() - visit.began, wanted.db_s if wanted else -1.0
        own = own_lines(visit, seconds, db_s)
        self._tally.add(visit.method, kept.route, status, seconds)
        if cycle := unanswered(visit.send):
            send_bytes(cycle, bytes_of(kept, status, self._server_lines(cycle), own))
        else:
            headers, body = parts_of(kept, status, own)
            await send_answer(visit.send, status, headers, body)
        if wanted:
            log_read(visit, kept.route, status, seconds, db_s, self._slow_s)

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

    async def _count_against_address(self, visit: Visit) -> None:
        """Until Flask finds the token good. Raises: TooManyRequests."""
        limit = self._limits.of_address(visit.address)
        used = (await self._checks.ask(None, limit)).used
        visit.take_back = (
            partial(self._local.add, limit, -1) if used is None else partial(self._checks.take_back, limit)
        )
        self._count(limit, used)

    async def _ask_a_thread(self, visit: Visit, access: Access | None) -> Finished:
        since = time.monotonic()
        # One byte more than is allowed: Flask then sees that there is too much, and refuses it in its turn.
        body = await read_body(visit.scope, visit.receive, self._most_bytes)
        async with self._slots.taken(visit.priority):
            # A body or a line may have taken its time, in which a token may have been revoked.
            known = access if time.monotonic() - since < _KNOWN_FOR_S else None
            made = await self._writes.make(visit, body, known) if known else None
            return made or await self._threads.call(visit.scope, body, known)

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
                self._reads.close()
                self._tally.enter()
                await self._held.stop()
                return
