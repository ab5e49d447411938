"""The fast host of the declared routes: a kept answer, a planned read on its loop, or the engine on a thread.

A request goes five steps: which route it is; what is known of its caller, and what it asks for; one question to Redis,
whether that still holds, how much of a limit is used, and whether there is an answer already; the answer; sending it.
One whose answer is kept needs the third and the last. What is not declared is Flask's, on a thread.
"""

import asyncio
import logging
import time
from collections.abc import Coroutine
from contextlib import closing, nullcontext
from functools import partial
from typing import Any
from uuid import UUID

from flask import Flask

from api.cors import Cors
from api.http import conditional, is_conditional, problem_of, problem_reply
from api.job_waiters import ClientGone
from api.limits import Allowed, Counter, KnownTokens, Limit, Limits, LocalCounts, PolicyName, Used, count_several
from api.long_poll import comes_back, first_reply
from api.reply import Reply, Waiting
from api.request import OPERATORS, Request
from api.route_matcher import Ids, RouteMatcher
from api.routing import Priority, Route
from api.server.access_cache import AccessCache, Caller
from api.server.admission import AdmissionQueue, Owners, owners_of
from api.server.exchange import Exchange
from api.server.long_poll import LongPolls
from api.server.loop_reader import Wanted
from api.server.metrics_buffer import Tally
from api.server.reads import Reads
from api.server.redis_batch import UNKNOWN, CheckResult, Checks
from api.server.response_cache import CachedResponse, ResponseCache, cached
from api.server.thread_pool import ThreadPool
from api.serving import admit_upload, answer
from api.telemetry import hit_lines, log_answered, own_fields, own_lines, record_answered
from api.uploads import Upload
from config import Settings
from dues.errors import NotFound, Problem
from dues.reads.freshness import fresh_cache
from dues.redis.wire import Address
from dues.stores.access import Access

log = logging.getLogger("dues.server")

_ALIVE = b'{"status":"ok"}'
_ALIVE_FIELDS = b"content-type: application/json\r\ncache-control: no-store\r\ncontent-length: %d\r\n" % len(_ALIVE)
_READS = ("GET", "HEAD")
# Threads for what operators ask; of these, one address may take two.
_OPERATORS_THREADS, _OPERATORS_SHARE = 3, 2
# For this long after a check, what a caller may do is not checked again.
_KNOWN_FOR_S = 0.25


class Application:
    """Answers exchanges, for one event loop."""

    def __init__(self, app: Flask) -> None:
        settings: Settings = app.extensions["settings"]
        self._app, self._settings = app, settings
        with app.app_context():
            cache = fresh_cache()
        self._store, self._generation = cache.store, cache.poller.generation
        self._checks = Checks(Address.parse(settings.cache_redis_url), cache.store, self._generation)
        self._responses = ResponseCache(settings.cache_memory_bytes)
        self._callers = AccessCache()
        self._cors = Cors(settings.cors_origins)
        self._tally = Tally()
        self._reads = Reads(app, self._checks, self._tally)
        self._limits, self._local = Limits(settings.rate_limit), LocalCounts(settings.web_concurrency)
        self._known_tokens = KnownTokens()
        self._threads = ThreadPool(app, settings.web_threads)
        # A quarter of the threads is always left to others.
        self._admission = AdmissionQueue(settings.web_threads, share=max(1, settings.web_threads * 3 // 4))
        self._operators = ThreadPool(app, _OPERATORS_THREADS)
        self._operators_admission = AdmissionQueue(_OPERATORS_THREADS, share=_OPERATORS_SHARE)
        self._routes: RouteMatcher = app.extensions["route_matcher"]
        self._long_polls = LongPolls(app, self._threads, self._admission, settings.max_waiting_clients)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """On the loop, before the first exchange."""
        # Starts the reading of the cache's switch, whose first answer is waited for: now, and not with a request.
        self._generation()
        self._reads.start()

    def stop_waiting(self) -> None:
        """Answer all clients that wait: they would keep a server that is told to end from ending."""
        self._long_polls.close()

    async def stop(self) -> None:
        self._checks.close()
        self._reads.close()
        self._tally.enter()
        await self._long_polls.stop()
        self._threads.close()
        self._operators.close()

    def __call__(self, exchange: Exchange) -> None:
        """Answer an exchange, now or later. Never raises."""
        request = exchange.request
        if request.path == "/healthz" and request.method in _READS:
            # Without a thread, which may all be busy.
            exchange.send(200, _ALIVE_FIELDS + own_fields(request.id, exchange.seconds, None), _ALIVE)
            return
        if request.method == "OPTIONS" and (preflight := self._cors.preflight(request)):
            exchange.send_reply(preflight, own_fields(request.id, exchange.seconds, None))
            return
        kept = self._responses.find(self._responses.key_of(request)) if request.method in _READS else None
        if kept is None:
            begin = partial(self._begin, exchange)
            if comes_back(request, self._routes):
                self._long_polls.begin(exchange, begin)
            else:
                begin()
            return
        limit = self._limit_of(kept.route, request, kept.user_id)
        self._checks.ask_then(kept.validator_set, limit, None, partial(self._on_checked, exchange, kept, limit))

    def _begin(self, exchange: Exchange) -> None:
        self._run(exchange, self._serve(exchange))

    def _on_checked(self, exchange: Exchange, kept: CachedResponse, limit: Limit | None, result: CheckResult) -> None:
        """Redis has said whether the kept answer is still fresh."""
        try:
            self._count(exchange, limit, result.used)
            if result.fresh:
                self._send_kept(exchange, kept)
            else:
                self._run(exchange, self._serve(exchange, is_counted=True))
        except Problem as problem:
            self._refuse(exchange, problem, kept.route.path)
        except Exception as error:
            self._fail(exchange, error)

    def _run(self, exchange: Exchange, steps: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(self._guard(exchange, steps))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, exchange: Exchange, steps: Coroutine[Any, Any, None]) -> None:
        """Whatever fails is a problem document that can be found in the logs."""
        try:
            await steps
        except Problem as problem:
            self._refuse(exchange, problem)
        except (ClientGone, TimeoutError):
            log.debug("a client went away, or took too long")
            exchange.abort()
        except Exception as error:
            self._fail(exchange, error)

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        self._refuse(exchange, problem_of(error, exchange.request.id))

    async def _serve(self, exchange: Exchange, *, is_counted: bool = False) -> None:
        """The five steps. Raises: Problem, ClientGone, TimeoutError."""
        request = exchange.request
        found = self._routes.find(request)
        if found is None:
            await self._serve_page(exchange)
            return
        route, ids = found
        caller = self._callers.find(request.token, ids.get("store_id"))
        planned = self._reads.plan(route, ids, request, caller.access) if caller else None
        result = await self._ask(exchange, route, caller, planned, is_counted=is_counted)
        holds = result.fresh or isinstance(planned, Waiting) or (caller is not None and caller.validators is None)
        known = caller.access if caller and holds else None
        reply = await self._make(exchange, route, ids, planned, known, result)
        await self._send(exchange, route, reply)

    async def _ask(
        self,
        exchange: Exchange,
        route: Route,
        caller: Caller | None,
        planned: Wanted | Waiting | None,
        *,
        is_counted: bool,
    ) -> CheckResult:
        """Whether what is known of the caller holds, and what is kept of the answer. Counts the request. Raises:
        TooManyRequests."""
        actor, token = caller.access.actor if caller else None, exchange.request.token
        # What the caller may do may be known no more: while Redis is away, nothing is kept of it.
        user_id = actor.user_id if actor else self._known_tokens.user_of(token) if token else None
        limit = None if is_counted else self._limit_of(route, exchange.request, user_id)
        # Whoever waits is looked at with its token before it is told anything.
        validators = caller.validators if caller and not isinstance(planned, Waiting) else None
        plan = planned.plan if isinstance(planned, Wanted) else None
        if validators is None and limit is None and plan is None:
            return UNKNOWN
        result = await self._checks.ask(validators, limit, plan)
        try:
            self._count(exchange, limit, result.used)
        except Problem:
            self._let_go(planned, result)
            raise
        return result

    def _let_go(self, planned: Wanted | Waiting | None, result: CheckResult) -> None:
        if isinstance(planned, Wanted):
            self._reads.let_go(planned.plan.key, result.found)

    def takes_parts(self, request: Request) -> bool:
        """Whether a request's body is a file, which is read in parts."""
        if request.fields.get("content-type") == "application/json":
            return False
        found = self._routes.find(request)
        return found is not None and bool(found[0].uploads)

    def _limit_of(self, route: Route, request: Request, user_id: UUID | None) -> Limit | None:
        """What a request counts against: its user, or as long as nobody has found its token good, its address."""
        return self._limit_of_policy(route.limit, request, user_id)

    def _limit_of_policy(self, policy: PolicyName, request: Request, user_id: UUID | None) -> Limit | None:
        if user_id is None or policy == "login":
            return self._limits.of_address(policy, request.address)
        return self._limits.of_user(policy, user_id)

    def _count(self, exchange: Exchange, limit: Limit | None, used: Used | None) -> None:
        """Raises: TooManyRequests."""
        if limit:
            used = used or self._local.add(limit)
            exchange.limited = limit, used
            limit.require(used)

    async def _make(
        self,
        exchange: Exchange,
        route: Route,
        ids: Ids,
        planned: Wanted | Waiting | None,
        known: Access | None,
        result: CheckResult,
    ) -> Reply:
        """The answer: made here where the caller is known and it is planned, else by the engine."""
        if known is None:
            self._let_go(planned, result)
        elif isinstance(planned, Waiting):
            return first_reply(planned)
        elif planned and (reply := await self._reads.make(exchange.request, planned, result)):
            return reply
        return await self._on_thread(exchange, route, ids, known)

    async def _on_thread(self, exchange: Exchange, route: Route, ids: Ids, known: Access | None) -> Reply:
        since = time.monotonic()
        request = exchange.request
        owners = owners_of(request, known, ids.get("store_id"))
        body = await self._receive_file(exchange, route, ids, owners) if route.uploads else await exchange.body()
        with closing(body) if isinstance(body, Upload) else nullcontext():
            async with self._admission.slot(route.order, owners):
                if exchange.is_gone:
                    raise ClientGone
                # A body or a queue may have taken its time, in which a token may have been revoked.
                held = known if time.monotonic() - since < _KNOWN_FOR_S else None
                count = partial(self._recount, exchange, route, known)
                several = partial(self._count_parts, exchange, route)
                reply = await self._threads.call(
                    partial(answer, route, ids, request, body, known=held, count=count, count_several=several)
                )
        self._tally.add_statements(reply.queries, reply.db_s)
        if reply.access and reply.access is not held:
            self._callers.keep(request.token, reply.access)
            if request.token and reply.access.actor:
                self._known_tokens.add(request.token, reply.access.actor.user_id)
        return reply

    async def _receive_file(self, exchange: Exchange, route: Route, ids: Ids, owners: Owners) -> Upload:
        """A file, which comes once its sender may send it, and which no thread waits for. To be closed. Raises:
        Problem, ClientGone."""
        call, count = self._threads.call, partial(self._recount, exchange, route, None)
        async with self._admission.slot(route.order, owners):
            await call(partial(admit_upload, route, ids, exchange.request, count))
        upload = await call(Upload)
        try:
            while part := await exchange.body_part():
                await call(upload.write, part)
        except BaseException:
            upload.close()
            raise
        return upload

    def _recount(self, exchange: Exchange, route: Route, known: Access | None, access: Access) -> None:
        """On a thread: a token that nobody knew has turned out to be good, and counts for its user instead of its
        address. Raises: TooManyRequests."""
        limited = exchange.limited
        if known or limited is None or access.actor is None or route.limit == "login":
            return
        counter, limit = Counter(self._store, self._local), self._limits.of_user(route.limit, access.actor.user_id)
        assert limit
        if limited[0].key == limit.key:
            return
        counter.give_back(*limited)
        used = counter.add(limit)
        exchange.limited = limit, used
        limit.require(used)

    def _count_parts(
        self, exchange: Exchange, route: Route, policy: PolicyName, access: Access, requests: int
    ) -> Allowed:
        """On a thread: count the requests that one request is made of."""
        limit = self._limit_of_policy(policy, exchange.request, access.actor.user_id if access.actor else None)
        allowed, used = count_several(Counter(self._store, self._local), limit, requests)
        if limit and used and policy == route.limit:
            exchange.limited = limit, used
        return allowed

    def _is_free(self, path: str) -> bool:
        """Whether a page counts against no limit."""
        return path in OPERATORS

    async def _serve_page(self, exchange: Exchange) -> None:
        """What is not declared is Flask's: pages, what operators ask, and the refusal of all else."""
        request = exchange.request
        is_operators = request.path in OPERATORS
        is_free = self._is_free(request.path) or request.method == "OPTIONS"
        limit = None if is_free else self._limits.of_address("default", request.address)
        if limit:
            result = await self._checks.ask(None, limit)
            self._count(exchange, limit, result.used)
        if not request.path:
            raise NotFound("there is no such resource")
        body = await exchange.body()
        threads = self._operators if is_operators else self._threads
        admission = self._operators_admission if is_operators else self._admission
        async with admission.slot(Priority.READ, (request.address,)):
            page = await threads.page(exchange, body)
        exchange.send(page.status, page.fields, page.body)

    async def _send(self, exchange: Exchange, route: Route, reply: Reply) -> None:
        """Send a reply, after the waiting that it asks for. Keep it where it comes again."""
        request = exchange.request
        # Kept here from the second time on: what is asked for once would drive out what comes again.
        if reply.validators and reply.hit and reply.status == 200:
            self._responses.keep(ResponseCache.key_of(request), cached(reply, route))
        # What has been waited for may name something else that its client waits for.
        while reply.waiting and not reply.waiting.streams:
            reply = await self._long_polls.hold(exchange, reply) or await self._anew(exchange, route)
        if reply.poke:
            reply = await self._long_polls.poke(exchange, reply)
        reply = conditional(request, reply)
        seconds = exchange.seconds
        own = own_lines(request, reply, seconds, exchange.limited)
        self._tally.add(request.method, route.path, reply.status, seconds)
        log_answered(request, route.path, reply, seconds, exchange.held_s, self._settings.slow_request_s)
        record_answered(request, route.path, reply.status, seconds)
        if reply.waiting and reply.waiting.streams:
            await self._long_polls.stream(exchange, reply, own)
        elif reply.file is not None:
            await self._threads.send_file(exchange, reply, own)
        else:
            exchange.send_reply(reply, own)

    async def _anew(self, exchange: Exchange, route: Route) -> Reply:
        """The answer for a client whose right to what it waited for has to be looked at again."""
        found = self._routes.find(exchange.request)
        assert found
        return await self._on_thread(exchange, *found, None)

    def _send_kept(self, exchange: Exchange, kept: CachedResponse) -> None:
        request = exchange.request
        seconds = exchange.seconds
        own = b"" if kept.is_shared else hit_lines(request.id, seconds, exchange.limited)
        status, content_fields, body = 200, kept.content_fields, kept.body
        if is_conditional(request):
            found = conditional(request, Reply(body, 200, {"ETag": kept.etag}))
            if found.status == 412:
                exchange.send_reply(found, own)
                return
            if found.status == 304:
                status, content_fields, body = 304, b"", b""
        self._tally.add(request.method, kept.route.path, status, seconds)
        record_answered(request, kept.route.path, status, seconds)
        exchange.send(status, b"%b%b%b" % (kept.fields, content_fields, own), body)

    def _refuse(self, exchange: Exchange, problem: Problem, route: str = "refused") -> None:
        if exchange.is_answered:
            # Too late for another answer.
            exchange.abort()
            return
        request = exchange.request
        reply = problem_reply(problem, request)
        # As it is said where there is time to compress.
        reply.headers.setdefault("Vary", "Accept-Encoding")
        seconds = exchange.seconds
        self._tally.add(request.method, route, reply.status, seconds)
        record_answered(request, route, reply.status, seconds)
        exchange.send_reply(reply, own_fields(request.id, seconds, exchange.limited))
