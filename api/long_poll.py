"""A client that waits for a job: the reply that is sent when the waiting is over.

A handler answers at once, as the job stands, and says in the reply what its client waits for (`Waiting`). A server with
room then holds the client and sends one of these instead.
"""

import logging
from dataclasses import replace
from math import inf

from api.prefer import preferred_wait
from api.reply import Reply, Waiting
from api.request import Request
from api.route_matcher import RouteMatcher
from config import Settings
from dues.cells.signatures import LIFE_S
from dues.jobs.service import StatusDocument

log = logging.getLogger("dues.waits")

# After this long a stream says that it is still there.
COMMENT_EVERY_S = 15
COMMENT = b":\n\n"


def longest_stream_s(settings: Settings) -> float:
    """How long a stream lasts before its client has to ask anew. In a cell as long as what the directory has said of a
    request: a cell that it cannot tell knows nothing of a token that was revoked."""
    return LIFE_S if settings.cell else inf


def wanted_wait(request: Request) -> int:
    """How many seconds a request's client wants to be held; 0 for not at all."""
    return preferred_wait(request.header("prefer"))


def comes_back(request: Request, routes: RouteMatcher) -> bool:
    """Whether its client has been told of what it waits for, and waits to be told more."""
    if "prefer" not in request.fields or "if-none-match" not in request.fields or request.method != "GET":
        return False
    found = routes.find(request)
    return found is not None and found[0].plan_wait is not None and wanted_wait(request) > 0


def event(status: StatusDocument) -> bytes:
    """A status document as a server-sent event."""
    return f"id: {status.version}\nevent: status\ndata: {status.document}\n\n".encode()


def first_reply(waiting: Waiting) -> Reply:
    """What a client that has seen the present version is told at once where it cannot wait: nothing new. In place of
    the 304 that it is by then, the 200 whose ETag makes one of it (api/http.py)."""
    headers = {
        "ETag": f'"{waiting.version}"',
        "Cache-Control": "private, no-cache",
        "Vary": "Accept-Encoding, Authorization",
        "Retry-After": "1",
    }
    return Reply(None, 200, headers, waiting=waiting)


def reply_later(first: Reply, waiting: Waiting, status: StatusDocument) -> Reply:
    """The reply to a client that was held on a status URL: the first one where nothing has changed."""
    headers = dict(first.headers) | {"Preference-Applied": f"wait={waiting.seconds}"}
    if status.done:
        headers.pop("Retry-After", None)
    if status.version == waiting.version:
        return replace(first, headers=headers, waiting=None)
    headers["ETag"] = status.etag
    # Said anew, where copying all that the first says would take longer.
    return Reply(status.document.encode(), 200, headers, queries=first.queries, db_s=first.db_s)


def finished_reply(first: Reply, waiting: Waiting) -> Reply:
    """The reply to a client that has waited for what it asked for; the first one where that cannot be had now. In an
    application context."""
    assert waiting.finish
    try:
        reply = waiting.finish()
    except Exception:
        # The work was accepted and is done; the client can still find it by the first reply.
        log.warning("a finished resource could not be read for the client that waited for it", exc_info=True)
        return replace(first, waiting=None)
    kept = {name: value for name, value in first.headers.items() if name not in _OUTDATED}
    reply.headers = kept | {"Preference-Applied": f"wait={waiting.seconds}"} | reply.headers
    return reply


# Of the first reply, what does not hold for a later one.
_OUTDATED = frozenset(("Content-Encoding", "ETag", "Location", "Retry-After"))
