"""Reads made on the event loop: the route's own declaration and handler say what is asked for, one statement answers
it, and no thread is needed.

This is how the most frequent requests are answered: a GET of a list or a row, by a caller that is known already. The
rules by which an answer is looked up, kept and shared are those of dues/reads/freshness/read_protocol.py.
"""

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from typing import ParamSpec, TypeVar

from flask import Flask

from api.auth import PUBLIC
from api.compress import SMALLEST, encode
from api.http import reply_of
from api.reply import Reply, Waiting
from api.request import Request
from api.routing import Call, Priority, Route
from api.server.admission import AdaptiveLimit
from api.server.loop_reader import LoopReader, Wanted
from api.server.metrics_buffer import Tally
from api.server.redis_batch import CheckResult, Checks
from api.server.replicas import Replicas
from api.serving import Ids, plan_read
from config import Settings
from dues.errors import Problem, Unavailable
from dues.postgres.aio import LoopPostgres, Lost
from dues.reads import ReadPlan, answer_of
from dues.reads.freshness import Result, fresh_cache
from dues.reads.freshness.read_protocol import Lookup
from dues.reads.freshness.store import Miss
from dues.stores.access import Access

# A larger body is compressed on a thread: it would keep the loop for milliseconds.
_LOOP_COMPRESSES = 16_384

P = ParamSpec("P")
T = TypeVar("T")


def _answer_none(call: Call) -> Reply:
    raise NotImplementedError("a plan of no route has no handler")


_OF_NONE = Route("GET", "", _answer_none, PUBLIC)


class Reads:
    """For one event loop."""

    def __init__(self, app: Flask, checks: Checks, tally: Tally) -> None:
        settings: Settings = app.extensions["settings"]
        # Plans and answers are made in an application context, entered once: functions are run in a copy of it.
        self._context = copy_context()
        self._context.run(app.app_context().push)
        self._store = self._context.run(fresh_cache).store
        self._checks = checks
        self._postgres = LoopPostgres(settings)
        self._replicas = Replicas.of(settings, self._postgres.fetch_row)
        self._reader = LoopReader(
            checks,
            self._store,
            self._postgres.fetch_row,
            AdaptiveLimit(settings.db_read_connections),
            tally,
            float(settings.cache_default_timeout),
            self._context,
            replicas=self._replicas,
        )

    def start(self) -> None:
        """On the loop, before the first read."""
        if self._replicas:
            self._replicas.start()

    def plan(self, route: Route, ids: Ids, request: Request, access: Access) -> Wanted | Waiting | None:
        """What a GET by this caller asks for, or waits for; None where a handler has to look first, or refuse."""
        if route.writes:
            return None
        try:
            plan = self._context.run(plan_read, route, ids, request, access)
        except Exception:
            # The engine meets the same, and has an answer to it.
            return None
        if plan is None or isinstance(plan, Waiting):
            return plan
        return Wanted(route, access, plan, route.order, request.span) if plan.tags else None

    async def make(self, request: Request, wanted: Wanted, result: CheckResult) -> Reply | None:
        """The reply to what was planned, after looking it up has found what it found; None: the engine is to make it.
        Raises: Unavailable."""
        try:
            made = await self._reader.read(wanted, result.found)
        except Unavailable:
            raise
        except (Problem, Lost):
            return None
        reply = self._context.run(reply_of, answer_of(wanted.plan, made), wanted.access)
        reply.access = wanted.access
        if wanted.db_s >= 0:
            reply.queries, reply.db_s = 1, wanted.db_s
        assert reply.body is not None
        if SMALLEST <= len(reply.body) <= _LOOP_COMPRESSES:
            encode(request, reply)
        elif len(reply.body) > _LOOP_COMPRESSES:
            await asyncio.get_running_loop().run_in_executor(None, encode, request, reply)
        return reply

    async def make_plan(self, plan: ReadPlan, found: Lookup) -> Result:
        """What a plan of no route comes to, after a look has found `found`. Raises: Unavailable, Lost."""
        return await self._reader.read(Wanted(_OF_NONE, Access(None), plan, Priority.READ), found)

    def within(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function in the application context that plans are made in."""
        return self._context.run(function, *args, **kwargs)

    def let_go(self, key: str, found: Lookup) -> None:
        """The answer that `key` names will not be made here, though others may wait for it."""
        if isinstance(found, Miss) and found.fills:
            self._checks.tell(self._store.release_commands(found.validator, key))

    def close(self) -> None:
        if self._replicas:
            self._replicas.close()
        self._postgres.close()
