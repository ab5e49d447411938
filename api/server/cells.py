"""The fast host of a cell, and of the directory of cells: each a step before the one of every Dues."""

import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple
from uuid import UUID

from flask import Flask

from api.cells import directing
from api.cells.counting import Counting
from api.cells.entrance import INTERNAL, Entrance, Unwritten
from api.http import problem_of, problem_reply
from api.reply import Reply
from api.request import Request
from api.routing import Priority
from api.server.application import Application
from api.server.exchange import Exchange
from api.server.lru import Lru
from api.telemetry import own_fields
from config import Settings
from dues.cells.question import Answer, Asked, Question, read_answer
from dues.errors import Problem
from dues.postgres.aio import Lost
from dues.reads.freshness.read_protocol import Lookup
from dues.reads.freshness.store import Hit
from dues.reads.freshness.validator import ValidatorSet


def application_for(app: Flask) -> Application:
    """The fast host of an application, by its settings."""
    settings: Settings = app.extensions["settings"]
    if settings.cells:
        return DirectoryApplication(app)
    return CellApplication(app) if settings.cell else Application(app)


# A caller's token, the store, and whom the path names beside them.
About = tuple[str | None, UUID, UUID | None]
# What an answer takes beside its facts, and all that are remembered together.
_SIZE, _MOST_BYTES = 2000, 20_000_000


class _WithCells(Application):
    def _is_free(self, path: str) -> bool:
        return super()._is_free(path) or path.startswith(INTERNAL)


class CellApplication(_WithCells):
    """Lets in whom the directory has vouched for."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self._entrance = Entrance(self._settings)

    def __call__(self, exchange: Exchange) -> None:
        try:
            unwritten = self._entrance.check(exchange.request)
        except Problem as problem:
            self._refuse(exchange, problem)
            return
        if unwritten is None:
            super().__call__(exchange)
        else:
            self._run(exchange, self._note(exchange, unwritten))

    async def _note(self, exchange: Exchange, unwritten: Unwritten) -> None:
        async with self._admission.slot(Priority.READ, (unwritten.facts.person.id.int,)):
            await self._threads.call(partial(self._entrance.write, unwritten))
        super().__call__(exchange)


class _Known(NamedTuple):
    """An answer that was read, and how to find out whether it still holds, until a time of `time.monotonic()`."""

    answer: Answer
    validators: ValidatorSet
    until: float


class DirectoryApplication(_WithCells):
    """Tells the gateway where requests go, mostly without a thread."""

    def __init__(self, app: Flask) -> None:
        super().__init__(app)
        self._known: Lru[_Known] = Lru(_MOST_BYTES)
        self._counting: Counting = app.extensions["counting"]

    def __call__(self, exchange: Exchange) -> None:
        if exchange.request.path == directing.PATH and exchange.request.method in {"GET", "HEAD"}:
            self._run(exchange, self._direct(exchange))
        else:
            super().__call__(exchange)

    async def _direct(self, exchange: Exchange) -> None:
        asked = directing.asked_request(exchange.request)
        try:
            reply = await self._directed(exchange, asked)
        except Exception as error:
            reply = problem_reply(problem_of(error, asked.id), asked)
        exchange.send_reply(reply, own_fields(asked.id, exchange.seconds, exchange.limited))

    async def _directed(self, exchange: Exchange, request: Request) -> Reply:
        """Raises: Problem, and whatever else makes it fail."""
        named = self._reads.within(directing.named_in, request)
        if named.store_id is None:
            return await self._by_thread(request, named) if named.job_id or named.founds else directing.to_directory()
        about = request.token, named.store_id, named.other
        answer = await self._known_answer(about)
        if answer is None:
            try:
                answer = await self._read_answer(exchange, request, about)
            except Lost:
                return await self._by_thread(request, named)
        return self._reads.within(directing.directed, request, answer)

    async def _known_answer(self, about: About) -> Answer | None:
        """What this process remembers, if Redis says that it still holds."""
        known = self._known.get(about)
        if known is None or time.monotonic() >= known.until:
            return None
        return known.answer if (await self._checks.ask(known.validators, None)).fresh else None

    async def _read_answer(self, exchange: Exchange, request: Request, about: About) -> Answer:
        """Raises: Unavailable, Lost, TooManyRequests."""
        question = Question(*about)
        found = (await self._checks.ask(None, None, question)).found
        give_back = None if isinstance(found, Hit) else await self._count_question(exchange, request, question, found)
        made = await self._reads.make_plan(question, found)
        answer = read_answer(made.payload)
        if request.token and answer.user_id:
            self._counting.is_good(request.token, answer.user_id)
            if give_back:
                give_back()
        if made.validator and (validators := ValidatorSet.over([made.validator])):
            known = _Known(answer, validators, made.expires_at)
            self._known.put(about, known, _SIZE + len(answer.facts) + len(about[0] or ""))
        return answer

    async def _count_question(
        self, exchange: Exchange, request: Request, question: Question, found: Lookup
    ) -> Callable[[], None] | None:
        """Count one that PostgreSQL is to be asked for. Returns: what is to be called once the token is found good.
        Raises: TooManyRequests."""
        limit = self._counting.limit_of(request)
        if limit is None:
            return None
        used = (await self._checks.ask(None, limit)).used
        try:
            self._count(exchange, limit, used)
        except Problem:
            self._reads.let_go(question.key, found)
            raise

        def give_back() -> None:
            if not self._counting.was_of_another(limit, request):
                return
            if used is None:
                self._local.add(limit, -1)
            else:
                self._checks.tell(self._store.count_commands(limit.key, limit.policy.window_s, -1))

        return give_back

    async def _by_thread(self, request: Request, named: Asked) -> Reply:
        # Those about jobs may wait for a cell that hangs, and leave threads to others, whoever sends them.
        owners = (request.address, "jobs") if named.job_id else (request.address,)
        async with self._admission.slot(Priority.READ, owners):
            return await self._threads.call(partial(directing.direct, request, self._counting))
