"""The few types of ASGI that the front door speaks (https://asgi.readthedocs.io, HTTP version 2.3)."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of a request's header; `name` in lower case, as uvicorn gives them."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return None
