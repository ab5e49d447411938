"""Compressed answers: zstd before br before gzip, from 1 KiB on.

Of a compressed copy the ETag has the encoding behind it, so that each strong ETag has one body. Pages that are Flask's
own (the documentation and its files) are left to Flask-Compress.
"""

import zlib
from collections.abc import Callable
from functools import lru_cache

import brotli
import zstandard
from flask import Flask
from flask_compress import Compress

from api.reply import Reply
from api.request import Request

SMALLEST = 1024
_TYPES = ("application/json", "application/problem+json")
_PAGE_TYPES = ["text/html", "text/css", "text/javascript", "text/plain"]
# A longer Accept-Encoding is read anew each time: what clients write there must not fill memory.
_LONGEST_KEPT = 256


def pages_compressor(app: Flask) -> Compress:
    """What compresses Flask's own pages; files go out as they are."""
    app.config["COMPRESS_MIMETYPES"] = _PAGE_TYPES
    app.config["COMPRESS_MIN_SIZE"] = SMALLEST
    app.config["COMPRESS_ALGORITHM"] = ["zstd", "br", "gzip"]
    app.config["COMPRESS_STREAMS"] = False
    # Called for pages alone: the declared routes' replies are finished.
    app.config["COMPRESS_REGISTER"] = False
    return Compress(app)


def _zstd(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=3).compress(body)


def _br(body: bytes) -> bytes:
    return bytes(brotli.compress(body, quality=4))


def _gzip(body: bytes) -> bytes:
    # Not gzip.compress(), which writes the time of day into it.
    deflater = zlib.compressobj(6, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return deflater.compress(body) + deflater.flush()


# In our order of preference.
_ENCODERS: dict[str, Callable[[bytes], bytes]] = {"zstd": _zstd, "br": _br, "gzip": _gzip}


def compress(body: bytes, encoding: str) -> bytes:
    return _ENCODERS[encoding](body)


def suffixed(etag: str, encoding: str) -> str:
    """The quoted ETag of the compressed copy."""
    return f'{etag[:-1]}:{encoding}"'


def wanted_encoding(request: Request) -> str | None:
    """The encoding that this client gets a large answer in; None for the answer as it is."""
    accept = request.fields.get("accept-encoding")
    return choose_encoding(accept) if accept else None


def encode(request: Request, reply: Reply) -> None:
    """Compress a reply's body where its client takes that and it is worth it."""
    if reply.body is None or reply.mimetype not in _TYPES or reply.status == 206:
        return
    reply.headers.setdefault("Vary", "Accept-Encoding")
    encoding = wanted_encoding(request) if len(reply.body) >= SMALLEST else None
    if encoding is None or "Content-Encoding" in reply.headers:
        return
    reply.body = compress(reply.body, encoding)
    reply.headers["Content-Encoding"] = encoding
    if etag := reply.headers.get("ETag"):
        reply.headers["ETag"] = suffixed(etag, encoding)


def choose_encoding(accept: str) -> str | None:
    """The encoding for an Accept-Encoding field (RFC 9110, 12.5.3), or None for the body as it is.

    Of those that the client takes, the one it rates highest; of equals, ours before identity, in our order. What it
    rates 0 it does not get.
    """
    return _choose(accept) if len(accept) > _LONGEST_KEPT else _choose_once(accept)


def _choose(accept: str) -> str | None:
    rated: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        rated[name] = _quality(parameters)
    others = rated.get("*", 0.0)
    best = max(_ENCODERS, key=lambda name: rated.get(name, others))
    quality = rated.get(best, others)
    return best if quality > 0 and quality >= rated.get("identity", 0.0) else None


_choose_once = lru_cache(maxsize=256)(_choose)


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0
