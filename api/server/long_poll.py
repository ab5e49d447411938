"""What the server does with a reply whose client waits for more (api/long_poll.py)."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from flask import Flask

from api.compress import encode
from api.job_waiters import ClientGone, JobWaiters
from api.long_poll import COMMENT, event, finished_reply, longest_stream_s, reply_later
from api.pokes import Pokes, reply_after
from api.reply import Poke, Reply, Waiting
from api.routing import Priority
from api.server.admission import AdmissionQueue, Owners, owners_of
from api.server.exchange import Exchange
from api.server.stand_back import StandBack
from api.server.thread_pool import ThreadPool
from dues.errors import Unavailable


class LongPolls:
    """Holds clients, at the cost of a socket each."""

    def __init__(self, app: Flask, threads: ThreadPool, admission: AdmissionQueue, most: int) -> None:
        self._threads, self._admission = threads, admission
        self._longest_stream_s = longest_stream_s(app.extensions["settings"])
        self._stand_back = StandBack()
        self._waiters = JobWaiters(app, most, self._stand_back.busy)
        self._pokes = Pokes(app, most)

    def close(self) -> None:
        self._waiters.close()
        self._pokes.close()

    async def stop(self) -> None:
        await self._waiters.stop()
        await self._pokes.stop()

    def begin(self, exchange: Exchange, begin: Callable[[], None]) -> None:
        """Begin to serve a client that comes back to wait, now or a moment later: while many are to be told something,
        it stands back before anything is done for it, so that they are told first."""

        def begin_now() -> None:
            exchange.held_s = exchange.seconds
            begin()

        self._stand_back.begin(begin_now)

    async def hold(self, exchange: Exchange, first: Reply) -> Reply | None:
        """The reply after the waiting that `first` asks for; the first one when too many wait already or its client
        sends no more; None where it has to be made anew. Raises: ClientGone."""
        waiting = first.waiting
        assert waiting
        later: Reply | None
        if not self._waiters.has_room:
            return _unheld(first, waiting)
        since = exchange.seconds
        try:
            status = await self._waiters.wait(waiting, exchange.gone)
        except ClientGone:
            if exchange.is_gone:
                raise
            return _unheld(first, waiting)
        finally:
            exchange.held_s += exchange.seconds - since
        if waiting.finish:
            is_done = status is not None and status.done
            later = await self._finished(exchange, first, waiting) if is_done else replace(first, waiting=None)
        else:
            later = reply_later(first, waiting, status) if status else None
        if later is not None and later.waiting is None:
            encode(exchange.request, later)
        return later

    async def _finished(self, exchange: Exchange, first: Reply, waiting: Waiting) -> Reply:
        """What was waited for, if a thread has time to read it: the work is done, and is found by the first reply."""
        try:
            async with self._admission.slot(Priority.READ, _owners(exchange, first)):
                if exchange.is_gone:
                    raise ClientGone
                return await self._threads.call(finished_reply, first, waiting)
        except Unavailable:
            return replace(first, waiting=None)

    async def poke(self, exchange: Exchange, first: Reply) -> Reply:
        """The reply to a client that waits for changes. Raises: ClientGone."""
        poke = first.poke
        assert poke
        until = time.monotonic() + poke.seconds
        while await self._is_moved(exchange, replace(poke, seconds=until - time.monotonic())):
            # One write may wake thousands. Whoever asks and is not held goes before them, and who is turned away among
            # so many waits on: its turn is a second later. Should others have taken its room meanwhile, it is told of
            # nothing new, and asks again.
            since = exchange.seconds
            with suppress(Unavailable):
                async with self._admission.slot(Priority.HELD, _owners(exchange, first)):
                    exchange.held_s += exchange.seconds - since
                    if exchange.is_gone:
                        raise ClientGone
                    return await self._threads.call(partial(reply_after, exchange.request, first, poke, is_moved=True))
        return reply_after(exchange.request, first, poke, is_moved=False)

    async def _is_moved(self, exchange: Exchange, poke: Poke) -> bool:
        """Whether there is something new, once there is or the time is over. Raises: ClientGone."""
        since = exchange.seconds
        try:
            return await self._pokes.wait(poke, exchange.gone)
        except ClientGone:
            if exchange.is_gone:
                raise
            return False
        finally:
            exchange.held_s += exchange.seconds - since

    async def stream(self, exchange: Exchange, reply: Reply, own: bytes) -> None:
        """Send what there is, and an event for each change until the job is done. Raises: ClientGone, TimeoutError."""
        waiting = reply.waiting
        assert waiting
        exchange.begin(reply, own)
        await exchange.part(reply.body or b"")
        until = time.monotonic() + self._longest_stream_s
        while self._waiters.has_room and (left_s := until - time.monotonic()) > 0:
            try:
                status = await self._waiters.wait(waiting.at_most(left_s), exchange.gone)
            except ClientGone:
                break
            if status is None:
                break
            if status.version == waiting.version:
                await exchange.part(COMMENT)
                continue
            await exchange.part(event(status))
            waiting = replace(waiting, version=status.version)
            if status.done:
                break
        exchange.finish()


def _unheld(first: Reply, waiting: Waiting) -> Reply | None:
    """The reply to a client that cannot be held; None where it has to be made anew."""
    return None if waiting.is_unchecked else replace(first, waiting=None)


def _owners(exchange: Exchange, first: Reply) -> Owners:
    return owners_of(exchange.request, first.access, first.access.store_id if first.access else None)
