"""Reads that no cache has, made on the event loop: the route's own declaration and handler say what is asked for, one
statement answers it, and neither Flask nor a thread is needed.

This is the short road of the most frequent requests: a GET of a list or a row, by a caller who is known already. Flask,
which has the same declarations, answers all else, and says what is wrong with whatever is refused. The rules by which
an answer is looked up, kept and shared are those of dues/reads/freshness/read_protocol.py.
"""

import asyncio
from contextvars import copy_context
from dataclasses import replace

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
from api.server.loop_reader import LoopReader, Wanted
from api.server.metrics_buffer import Tally
from api.server.redis_batch import Checks
from api.server.route_matcher import Paths
from config import Settings
from dues.cdn import SHARED
from dues.errors import Problem, Unavailable
from dues.postgres.aio import LoopPostgres, Lost
from dues.reads import Answer, ReadPlan, answer_of
from dues.reads.freshness import Validator, fresh_cache
from dues.reads.freshness.read_protocol import Lookup
from dues.reads.freshness.store import Miss

# A larger body is compressed on a thread: it would keep the loop for milliseconds.
_LOOP_COMPRESSES = 16_384


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
        self._reader = LoopReader(
            checks,
            self._store,
            self._postgres.fetch_row,
            Turns(settings.db_read_connections),
            tally,
            float(settings.cache_default_timeout),
            self._context,
        )
        self._paths = Paths(route for module in MODULES for route in module.all if _is_read(route))

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

    async def make(self, wanted: Wanted, found: Lookup, encoding: str | None) -> Kept | None:
        """The answer to what was planned, after looking it up has `found` what it found; None: Flask is to make it.
        Raises: Unavailable."""
        try:
            result = await self._reader.read(wanted, found)
        except Unavailable:
            raise
        except (Problem, Lost):
            return None
        answer = answer_of(wanted.plan, result)
        if encoding and len(answer.body) >= SMALLEST:
            answer = await _compressed(answer, encoding)
        else:
            encoding = None
        return self._context.run(_kept, wanted, answer, encoding)

    def let_go(self, plan: ReadPlan, found: Lookup) -> None:
        """The answer will not be made here, though others may wait for it."""
        if isinstance(found, Miss) and found.fills:
            self._checks.tell(self._store.release_commands(found.validator, plan.key))

    def close(self) -> None:
        self._postgres.close()


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
    validators: tuple[Validator, ...] = ()
    until = 0.0
    if answer.validator and access.validators is not None:
        validators = *access.validators, answer.validator
        until = min(answer.expires_at, access.expires_at)
    return Kept(
        answer.etag.encode(), lines, of_body, answer.body, validators, until, route, SHARED in headers["Cache-Control"]
    )
