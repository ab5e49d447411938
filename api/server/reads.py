"""Reads that no cache has, made on the event loop: the route's own declaration and handler say what is asked for, one
statement answers it, and neither Flask nor a thread is needed.

This is the short road of the most frequent requests: a GET of a list or a row, by a caller who is known already. Flask,
which has the same declarations, answers all else, and says what is wrong with whatever is refused. The rules by which
an answer is looked up, kept and shared are those of dues/reads/freshness/reader.py.
"""

import asyncio
import time
from contextvars import copy_context
from dataclasses import dataclass, replace

from flask import Flask

from api.app import MODULES
from api.compress import SMALLEST, compress, suffixed
from api.http import read_headers
from api.request import Request
from api.routing import Route, plan_read
from api.server.access_cache import Caller
from api.server.admission import Priority, Turns
from api.server.asgi import Scope
from api.server.cached_response import Kept
from api.server.metrics_buffer import Tally
from api.server.redis_batch import Checks
from api.server.route_matcher import Paths
from config import Settings
from dues.cdn import SHARED
from dues.errors import Problem, Unavailable
from dues.postgres.aio import LoopPostgres, Lost
from dues.reads import Answer, ReadPlan, answer_of
from dues.reads.freshness import Proof, Result, fresh_cache
from dues.reads.freshness.reader import judge, unpack
from dues.reads.freshness.store import Hit, Miss, Unfounded
from dues.stores.access import Access

# A larger body is compressed on a thread: it would keep the loop for milliseconds.
_LOOP_COMPRESSES = 16_384

Found = Hit | Miss | Unfounded | None


@dataclass(slots=True)
class Wanted:
    """A read that a request asks for; once it is made, what it asked of the database: its seconds, -1 for nothing."""

    route: Route
    access: Access
    plan: ReadPlan
    priority: Priority
    db_s: float = -1.0


class Reads:
    """For one event loop."""

    def __init__(self, app: Flask, checks: Checks, tally: Tally) -> None:
        settings: Settings = app.extensions["settings"]
        # Plans and answers are made in an application context, entered once: functions are run in a copy of it.
        self._context = copy_context()
        self._context.run(app.app_context().push)
        self._store = self._context.run(fresh_cache).store
        self._checks, self._tally = checks, tally
        self._postgres = LoopPostgres(settings)
        self._turns = Turns(settings.db_read_connections)
        self._life_s = float(settings.cache_default_timeout)
        self._paths = Paths(route for module in MODULES for route in module.all if _is_read(route))
        self._flying: dict[str, asyncio.Future[None]] = {}
        self._boarding: dict[str, asyncio.Task[Result | None]] = {}

    def plan(self, scope: Scope, caller: Caller, priority: Priority) -> Wanted | None:
        """What a GET by this caller asks for; None where that is Flask's to say."""
        path: str = scope["path"]
        named = self._paths.find(path)
        if named is None:
            return None
        route, ids = named
        try:
            text = scope["query_string"].decode("latin-1")
            plan = self._context.run(plan_read, route, ids, caller.access, _get(path, text))
        except Exception:
            # Flask meets the same, and has an answer to it.
            return None
        return Wanted(route, caller.access, plan, priority) if plan and plan.tags else None

    async def make(self, wanted: Wanted, found: Found, encoding: str | None) -> Kept | None:
        """The answer to what was planned, after looking it up has `found` what it found; None: Flask is to make it.
        Raises: Unavailable."""
        result = await self._result(wanted, found)
        if result is None:
            return None
        answer = answer_of(wanted.plan, result)
        if encoding and len(answer.body) >= SMALLEST:
            answer = await _compressed(answer, encoding)
        else:
            encoding = None
        return self._context.run(_kept, wanted, answer, encoding)

    def let_go(self, plan: ReadPlan, found: Found) -> None:
        """The answer will not be made here, though others may wait for it."""
        if isinstance(found, Miss) and found.leads:
            self._checks.tell(self._store.releasing(found.proof, plan.key))

    def close(self) -> None:
        self._postgres.close()

    async def _result(self, wanted: Wanted, found: Found) -> Result | None:
        plan = wanted.plan
        if isinstance(found, Hit):
            self._tally.add_read("hit")
            return unpack(found)
        if not isinstance(found, Miss):
            return None
        if not found.waits:
            return await self._fly(wanted, found)
        ahead = self._flying.get(plan.key)
        if ahead is None:
            # Another process is at it.
            return None
        # The answer that is being made may have been read before this request came; the next one is for all who wait.
        task = self._boarding.get(plan.key)
        if task is None:
            task = self._boarding[plan.key] = asyncio.create_task(self._board(wanted, ahead))
        return await asyncio.shield(task)

    async def _board(self, wanted: Wanted, ahead: "asyncio.Future[None]") -> Result | None:
        try:
            await ahead
        finally:
            del self._boarding[wanted.plan.key]
        found = (await self._checks.ask(None, None, wanted.plan)).found
        return await self._result(wanted, found)

    async def _fly(self, wanted: Wanted, seen: Miss) -> Result | None:
        key = wanted.plan.key
        landed = self._flying[key] = asyncio.get_running_loop().create_future()
        try:
            return await self._compute(wanted, seen)
        finally:
            if self._flying.get(key) is landed:
                del self._flying[key]
            landed.set_result(None)

    async def _compute(self, wanted: Wanted, seen: Miss) -> Result | None:
        plan = wanted.plan
        try:
            sql, values = self._context.run(plan.statement)
            async with self._turns.taken(wanted.priority):
                began = time.perf_counter()
                row = await self._postgres.fetch_row(sql, values)
                wanted.db_s = time.perf_counter() - began
            self._tally.add_statements(1, wanted.db_s)
            answer = self._context.run(plan.computed, row)
        except BaseException as error:
            self.let_go(plan, seen)
            if isinstance(error, (Problem, Lost)) and not isinstance(error, Unavailable):
                return None
            raise
        result, entry = judge(seen, answer, self._life_s)
        if entry:
            self._checks.tell(self._store.filling(seen.proof, plan.key, *entry))
        else:
            self.let_go(plan, seen)
        self._tally.add_read("kept" if entry else "passed")
        return result


def _is_read(route: Route) -> bool:
    """Whether a route does nothing but answer a list or a row."""
    return route.method == "GET" and bool(route.lists or route.reads) and not (route.waits or route.streams)


def _get(path: str, query: str) -> Request:
    """A GET, of which no more is looked at."""
    return Request("GET", path, query, lambda _: None, bytes)


async def _compressed(answer: Answer, encoding: str) -> Answer:
    if len(answer.body) <= _LOOP_COMPRESSES:
        body = compress(answer.body, encoding)
    else:
        body = await asyncio.get_running_loop().run_in_executor(None, compress, answer.body, encoding)
    return replace(answer, body=body, etag=suffixed(answer.etag, encoding))


def _kept(wanted: Wanted, answer: Answer, encoding: str | None) -> Kept:
    """As it goes out. In an application context."""
    access, route = wanted.access, wanted.route.path
    headers = read_headers(answer, access)
    lines = "".join([f"{name.lower()}: {value}\r\n" for name, value in headers.items()]).encode()
    of_body = b"content-type: application/json\r\ncontent-length: %d\r\n" % len(answer.body)
    if encoding:
        of_body += b"content-encoding: %b\r\n" % encoding.encode()
    proofs: tuple[Proof, ...] = ()
    until = 0.0
    if answer.proof and access.proofs is not None:
        proofs, until = (*access.proofs, answer.proof), min(answer.expires_at, access.expires_at)
    return Kept(
        answer.etag.encode(), lines, of_body, answer.body, proofs, until, route, SHARED in headers["Cache-Control"]
    )
