"""The upper limit of frameworks on ASGI: a bare callable that returns bytes it already has, served by uvicorn."""

import os

SIZE = int(os.environ.get("BARE_BYTES", "8000"))
BODY = b"x" * SIZE
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(SIZE).encode())]


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        await send({"type": "http.response.body", "body": BODY})
