"""The upper limit: a bare ASGI callable that returns bytes it already has."""

import os

SIZE = int(os.environ.get("BARE_BYTES", "8000"))
BODY = b"x" * SIZE
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(SIZE).encode())]


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})
