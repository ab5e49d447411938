"""Compressed answers: zstd before br before gzip, from 1 KiB on.

Flask-Compress does this, but for what it gets wrong: it compresses 206s and leaves problem details alone, sends gzip
to who refused it (`gzip;q=0`), changes what is marked `no-transform`, writes the time into gzip's bytes, so that one
strong ETag has several bodies, and answers a conditional request only after compressing. The last is mended by
answering it earlier (`api/http.py`), and here by giving a 304 the ETag by which the client knows its copy.
"""

import re
import zlib
from collections.abc import Callable
from functools import lru_cache

import brotli
import zstandard
from flask import Flask, Response, request
from flask_compress import Compress

from api.http import entity_tags

SMALLEST = 1024
_TYPES = ["application/json", "application/problem+json", "text/html", "text/css", "text/javascript", "text/plain"]


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
    """The quoted ETag of the compressed copy, as Flask-Compress has it."""
    return f'{etag[:-1]}:{encoding}"'


class Compression(Compress):
    """Flask-Compress with its faults mended. Streams go out as they are: one that gains by it compresses itself."""

    def init_app(self, app: Flask) -> None:
        app.config.setdefault("COMPRESS_MIMETYPES", _TYPES)
        app.config.setdefault("COMPRESS_MIN_SIZE", SMALLEST)
        app.config.setdefault("COMPRESS_ALGORITHM", list(_ENCODERS))
        app.config.setdefault("COMPRESS_STREAMS", False)
        super().init_app(app)
        self._smallest = app.config["COMPRESS_MIN_SIZE"]

    def after_request(self, response: Response | None) -> Response:
        if response is None:
            return Response(status=204)
        if response.status_code == 304:
            _keep_sent_tag(response)
        elif response.mimetype in self.compress_mimetypes_set:
            # As text, since werkzeug takes the header apart and writes it anew for each look at it.
            if "Accept-Encoding" not in response.headers.get("Vary", ""):
                response.vary.add("Accept-Encoding")
            accept = request.environ.get("HTTP_ACCEPT_ENCODING")
            if accept and (name := choose_encoding(accept)) and self._may(response):
                response.set_data(compress(response.get_data(), name))
                response.headers["Content-Encoding"] = name
                etag, weak = response.get_etag()
                if etag and not weak:
                    response.headers["ETag"] = suffixed(f'"{etag}"', name)
        return response

    def _may(self, response: Response) -> bool:
        return (
            not response.is_streamed
            and (response.content_length or 0) >= self._smallest
            and response.status_code != 206
            and "Content-Encoding" not in response.headers
            and "Content-Range" not in response.headers
            and not response.cache_control.no_transform
        )


@lru_cache(maxsize=256)
def choose_encoding(accept: str) -> str | None:
    """The encoding for an Accept-Encoding header (RFC 9110, 12.5.3), or None for the body as it is.

    Of those that the client takes, the one it rates highest; of equals, ours before identity, in our order. What it
    rates 0 it does not get.
    """
    rated: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        rated[name] = _quality(parameters)
    others = rated.get("*", 0.0)
    best = max(_ENCODERS, key=lambda name: rated.get(name, others))
    quality = rated.get(best, others)
    return best if quality > 0 and quality >= rated.get("identity", 0.0) else None


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(max(float(parameter[2:]), 0.0), 1.0)
            except ValueError:
                return 0.0
    return 1.0


def _keep_sent_tag(response: Response) -> None:
    """A 304 names the ETag of the copy that the client holds, which may be a compressed one."""
    current = response.headers.get("ETag")
    for sent in re.findall(r'"[^"]*"', request.headers.get("If-None-Match", "")):
        if entity_tags(sent) == [current]:
            response.headers["ETag"] = sent
            return
