"""A request's body: bounded in size, decoded, parsed, and validated with every fault reported at once."""

import re
import zlib
from typing import Any, TypeVar

import msgspec
import ujson
import zstandard

from api.request import Request
from dues.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType
from dues.settings import settings

T = TypeVar("T", bound=msgspec.Struct)

# ujson takes these; PostgreSQL's text cannot hold them, and no JSON of ours may: NUL and halves of surrogate pairs.
_SUSPECT = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_CONTENT_ENCODINGS = ("gzip", "deflate", "zstd")


def read_body(sent: Request) -> bytes:
    """The decoded body. Raises: PayloadTooLarge past the bound (of what it decodes to), UnsupportedMediaType."""
    limit = settings().max_body_bytes
    raw = sent.read()
    encoding = (sent.header("content-encoding") or "identity").strip().lower()
    if encoding != "identity":
        raw = _decode(raw, encoding, limit)
    if len(raw) > limit:
        raise PayloadTooLarge(f"a body may have at most {limit} bytes")
    return raw


def _decode(raw: bytes, encoding: str, limit: int) -> bytes:
    """At most `limit` + 1 bytes are ever produced, whatever the body would decode to."""
    if encoding not in _CONTENT_ENCODINGS:
        raise UnsupportedMediaType(
            f"Content-Encoding may be {', '.join(_CONTENT_ENCODINGS)}",
            headers={"Accept-Encoding": ", ".join(_CONTENT_ENCODINGS)},
        )
    try:
        if encoding == "zstd":
            with zstandard.ZstdDecompressor(max_window_size=2**23).stream_reader(raw) as reader:
                return reader.read(limit + 1)
        # RFC 9110: deflate is the zlib format; 32 + MAX_WBITS tells it from gzip by its first bytes.
        inflater = zlib.decompressobj(32 + zlib.MAX_WBITS)
        body = inflater.decompress(raw, limit + 1)
    except (zlib.error, zstandard.ZstdError):
        raise BadRequest(f"the body is not valid {encoding}", code="malformed_encoding") from None
    if len(body) <= limit and (not inflater.eof or inflater.unused_data):
        raise BadRequest(f"the body is not one whole piece of {encoding} data", code="malformed_encoding")
    return body


def parse_json(sent: Request, raw: bytes) -> Any:
    """Raises: UnsupportedMediaType unless JSON is declared, BadRequest for what is not JSON."""
    if (sent.header("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("the body must be application/json", headers={"Accept": "application/json"})
    try:
        text = raw.decode()
        value = ujson.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest("the body is not JSON", code="malformed_json") from None
    if "\\u" in text and _SUSPECT.search(text) and not _is_clean(value):
        raise BadRequest("the body holds a character that text cannot have", code="malformed_json")
    if "\0" in text or not _is_finite(value):
        raise BadRequest("the body is not JSON", code="malformed_json")
    return value


def _walk(value: Any) -> Any:
    """Every scalar in a parsed document, keys included."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack += item.keys()
            stack += item.values()
        elif isinstance(item, list):
            stack += item
        else:
            yield item


def _is_clean(value: Any) -> bool:
    return not any(isinstance(item, str) and re.search("[\0\ud800-\udfff]", item) for item in _walk(value))


def _is_finite(value: Any) -> bool:
    infinite = (float("inf"), float("-inf"))
    return not any(isinstance(item, float) and (item != item or item in infinite) for item in _walk(value))
