"""What the front door does with an answer whose client waits for more (api/long_poll.py)."""

import asyncio
import signal
import threading
from dataclasses import replace
from types import FrameType

from api.long_poll import COMMENT, Waiting, answer_later, event, finish
from api.server.admission import Priority, Slots
from api.server.asgi import Receive, Scope, Send
from api.server.job_waiters import Waits
from api.server.poll_again import STATUS_URL, Regulars
from api.server.send import CHUNK_S, TooSlow, send_answer
from api.server.thread_pool import Finished, FlaskThreads
from dues.errors import Unavailable


class Held:
    """Holds clients; when they are to be answered by Flask after all, they share its threads as all do."""

    def __init__(self, waits: Waits, slots: Slots, threads: FlaskThreads) -> None:
        self._waits, self._slots, self._threads = waits, slots, threads
        self._regulars = Regulars()

    def let_go_on_sigterm(self) -> None:
        """Have a server that is told to stop answer all who wait, who would keep it from stopping. On its loop."""
        if threading.current_thread() is not threading.main_thread():
            return
        loop, before = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

        def let_go(number: int, frame: FrameType | None) -> None:
            loop.call_soon_threadsafe(self._waits.close)
            if callable(before):
                before(number, frame)

        signal.signal(signal.SIGTERM, let_go)

    async def stop(self) -> None:
        await self._waits.stop()

    @property
    def is_busy(self) -> bool:
        """Whether very many are being told something."""
        return not self._waits.calm.is_set()

    async def stand_back(self, scope: Scope) -> None:
        """Have who comes back to a status URL let the others be told first."""
        if scope["path"].startswith(STATUS_URL) and scope["method"] == "GET":
            await self._waits.calm.wait()

    def recall(self, scope: Scope) -> Finished | None:
        """An answer that Flask need not be asked for, because its client only waits."""
        return self._regulars.recall(scope) if self._waits.has_room else None

    async def later(self, scope: Scope, receive: Receive, first: Finished) -> Finished:
        """The answer after the waiting that `first` left; `first` itself when it left none, or too many wait already,
        or it is a stream. Raises: Unavailable under overload; Disconnected."""
        waiting: Waiting | None = first.leftover.waiting
        if waiting is None or waiting.streams:
            return first
        if not waiting.is_unchecked:
            if not self._waits.has_room:
                return first
            if waiting.finish is None:
                self._regulars.remember(scope, waiting)
        status = await self._waits.wait(waiting, receive)
        if waiting.finish:
            return await self._finished(first, waiting) if status and status.done else first
        if status is None:
            async with self._slots.taken(Priority.WRITE):
                return await self._threads.call(scope, b"")
        return answer_later(first, waiting, status)

    async def _finished(self, first: Finished, waiting: Waiting) -> Finished:
        try:
            async with self._slots.taken(Priority.WRITE):
                return await self._threads.run(finish, first, waiting)
        except Unavailable:
            return first

    async def send(self, receive: Receive, send: Send, finished: Finished) -> None:
        """Send an answer, and of a stream what follows. Raises: TooSlow, Disconnected."""
        waiting: Waiting | None = finished.leftover.waiting
        if waiting and waiting.streams:
            await self._stream(receive, send, finished, waiting)
        else:
            await send_answer(send, finished.status, finished.headers, finished.body)

    async def _stream(self, receive: Receive, send: Send, first: Finished, waiting: Waiting) -> None:
        """Send `first`, and an event for each change until the job is done."""
        await send({"type": "http.response.start", "status": first.status, "headers": first.headers})
        await _send_part(send, first.body)
        while self._waits.has_room and (status := await self._waits.wait(waiting, receive)):
            if status.version == waiting.version:
                await _send_part(send, COMMENT)
                continue
            await _send_part(send, event(status))
            waiting = replace(waiting, version=status.version)
            if status.done:
                break
        await send({"type": "http.response.body", "body": b""})


async def _send_part(send: Send, part: bytes) -> None:
    try:
        async with asyncio.timeout(CHUNK_S):
            await send({"type": "http.response.body", "body": part, "more_body": True})
    except TimeoutError:
        raise TooSlow from None
