"""A request's way through the front door."""

import logging

from flask import Flask

from api.front.asgi import Receive, Scope, Send
from api.front.intake import Disconnected, read_body
from api.front.outflow import TooSlow, send_answer, send_file, send_problem
from api.front.slots import Priority, Slots
from api.front.threads import FlaskThreads
from config import Settings
from dues.errors import Problem

log = logging.getLogger("dues.front")

_ALIVE = b'{"status":"ok"}'
_JSON = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]


class FrontDoor:
    """The ASGI application around a Flask application."""

    def __init__(self, app: Flask) -> None:
        settings: Settings = app.extensions["settings"]
        self._threads = FlaskThreads(app, settings.web_threads)
        self._slots = Slots(settings.web_threads)
        self._most_bytes = settings.max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/healthz" and scope["method"] in ("GET", "HEAD"):
            length = (b"content-length", str(len(_ALIVE)).encode())
            await send_answer(send, 200, [*_JSON, length], _ALIVE if scope["method"] == "GET" else b"")
            return
        try:
            await self._ask_flask(scope, receive, send)
        except Problem as problem:
            await send_problem(scope, send, problem)
        except (Disconnected, TooSlow):
            log.debug("a client went away, or took too long")

    async def _ask_flask(self, scope: Scope, receive: Receive, send: Send) -> None:
        # One byte more than is allowed: Flask then sees that there is too much, and refuses it in its turn.
        body = await read_body(scope, receive, self._most_bytes)
        async with self._slots.taken(priority_of(scope)):
            finished = await self._threads.call(scope, body)
        if finished.leftover.file is not None:
            await send_file(send, finished.status, finished.headers, finished.leftover.file)
        else:
            await send_answer(send, finished.status, finished.headers, finished.body)


def priority_of(scope: Scope) -> Priority:
    """What is shed first under overload: feeds, then other reads, then what changes something or tells of it."""
    path: str = scope["path"]
    if scope["method"] not in ("GET", "HEAD") or path.startswith("/v1/jobs"):
        return Priority.WRITE
    return Priority.FEED if path in ("/v1/feed", "/v1/newsfeed") else Priority.READ


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
