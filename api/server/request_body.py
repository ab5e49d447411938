"""A request's body, read whole before Flask is bothered: a slow sender costs a socket, never a thread."""

import asyncio

from api.server.asgi import Receive, Scope, header
from dues.errors import BadRequest, RequestTimeout

# A body must be here within this, and never pause for longer than that.
TOTAL_S = 60.0
PAUSE_S = 15.0


class Disconnected(Exception):
    """The client went away: there is nobody to answer."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The body, or as soon as it is longer than `limit`, the first `limit` + 1 bytes, which Flask then refuses.

    Raises: RequestTimeout for a sender that is too slow; Disconnected.
    """
    declared = header(scope, b"content-length")
    if declared is None and header(scope, b"transfer-encoding") is None:
        return b""
    if declared is not None:
        if not declared.isdigit():
            raise BadRequest("Content-Length is not a number")
        if int(declared) == 0:
            return b""
        if int(declared) > limit:
            return bytes(limit + 1)
    try:
        return await _read(receive, limit)
    except TimeoutError:
        raise RequestTimeout("the body did not arrive in time", headers={"Connection": "close"}) from None


async def _read(receive: Receive, limit: int) -> bytes:
    loop = asyncio.get_running_loop()
    latest = loop.time() + TOTAL_S
    parts: list[bytes] = []
    size, more = 0, True
    async with asyncio.timeout(PAUSE_S) as pause:
        while more and size <= limit:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            part: bytes = message.get("body", b"")
            parts.append(part)
            size += len(part)
            if more := message.get("more_body", False):
                pause.reschedule(min(loop.time() + PAUSE_S, latest))
    return b"".join(parts)[: limit + 1]
