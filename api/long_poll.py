"""A client that waits for a job: what a view says of it, and the answer that is sent when the waiting is over.

A view answers at once, as the job stands, and leaves a `Waiting` beside its answer where a server offers to hold
clients: the front door, at the cost of a socket (api/server/long_poll.py), or a server of threads (threaded.py). That
then sends the answer as it was, or a later one made here.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from uuid import UUID

from api.http import Reply
from api.prefer import preferred_wait
from api.request import Request
from api.server.asgi import Headers
from api.server.thread_pool import Finished
from dues.jobs.service import StatusDocument
from dues.reads import Query

log = logging.getLogger("dues.waits")

# After this long a stream says that it is still there.
COMMENT_EVERY_S = 15
COMMENT = b":\n\n"

# Of the first answer, what does not hold for a later one.
_OUTDATED = frozenset(
    (b"content-type", b"content-length", b"content-encoding", b"etag", b"location", b"retry-after", b"server-timing")
)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a client waits for, and by what right: its token's.

    version: what it has seen of the job; query: the fields of the status document that it wants. seconds: how long
    it waits, at most; of a stream, until the next sign of life. finish: of a request that began the job, makes the
    finished resource's answer; such a client waits until the job is done, others until it changes. is_unchecked: by
    what right has not been looked at yet.
    """

    job_id: UUID
    version: int
    token_id: UUID
    query: Query
    seconds: int
    finish: Callable[[], Reply] | None = None
    streams: bool = False
    is_unchecked: bool = False
    began_at: float = field(default_factory=time.perf_counter)


def wanted_wait(sent: Request) -> int:
    """How many seconds a request's client wants to be held, if it can be; else 0."""
    return preferred_wait(sent.header("prefer")) if sent.leftover else 0


def leave(sent: Request, waiting: Waiting) -> None:
    """Have a request's client held, where its server can."""
    if sent.leftover:
        sent.leftover.waiting = waiting


def event(status: StatusDocument) -> bytes:
    """A status document as a server-sent event."""
    return f"id: {status.version}\nevent: status\ndata: {status.document}\n\n".encode()


def answer_later(first: Finished, waiting: Waiting, status: StatusDocument) -> Finished:
    """The answer to a client that was held on a status URL: the first one where nothing has changed."""
    if status.version == waiting.version:
        outdated = (b"x-request-duration", b"retry-after" if status.done else b"")
        headers = [pair for pair in first.headers if pair[0] not in outdated]
        return Finished(first.status, headers + _waited(waiting), first.body)
    headers = [(b"etag", status.etag.encode())]
    headers += [pair for pair in first.headers if pair[0] == b"retry-after" and not status.done]
    return _answer(first, waiting, 200, headers, status.document.encode())


def finish(first: Finished, waiting: Waiting) -> Finished:
    """The answer to a client that has waited for what it asked for; the first one where that cannot be had now. In
    an application context."""
    assert waiting.finish
    try:
        reply = waiting.finish()
    except Exception:
        # The work was accepted and is done; the client can still find it by the first answer.
        log.warning("a finished resource could not be read for who waited for it", exc_info=True)
        return first
    headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    return _answer(first, waiting, reply.status, headers, reply.body or b"")


def _answer(first: Finished, waiting: Waiting, status: int, headers: Headers, body: bytes) -> Finished:
    kept = [pair for pair in first.headers if pair[0] not in _OUTDATED and pair[0] != b"x-request-duration"]
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    return Finished(status, own + headers + kept + _waited(waiting), body)


def _waited(waiting: Waiting) -> Headers:
    seconds = time.perf_counter() - waiting.began_at
    return [
        (b"preference-applied", f"wait={waiting.seconds}".encode()),
        (b"x-request-duration", f"{seconds:.6f}".encode()),
    ]
