"""A request's body: bounded in size, decoded, and parsed as JSON to the letter of RFC 8259."""

import codecs
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

import msgspec

from api.request import Request
from dues.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType
from dues.settings import settings

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Compressed data may come in several pieces, one after the other (RFC 1952 2.2, RFC 8878 3): tools that compress in
# parallel write it so. Each piece costs a decoder, so there is a most of them.
_MOST_PIECES = 100
_ZSTD_OPTIONS = {int(zstd.DecompressionParameter.window_log_max): 23}


class _Decoder(Protocol):
    """Decodes one piece; `unused_data` is what came after its end."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": lambda: zlib.decompressobj(16 + zlib.MAX_WBITS),
    # RFC 9110: what is called deflate is the zlib format.
    "deflate": lambda: zlib.decompressobj(zlib.MAX_WBITS),
    "zstd": lambda: zstd.ZstdDecompressor(options=_ZSTD_OPTIONS),
}
# How much of a body that is decoded in parts is held at a time.
_PART = 256 * 1024
_ALIASES = {"x-gzip": "gzip"}

# What programs that write UTF-8, or UTF-16, as Windows has it put before the text.
_BOMS = (codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# As an escape, and not as the words after an escaped backslash.
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
# How deep arrays and objects may lie in one another.
DEEPEST = 100
# An answer repeats at most this many characters of what was sent.
_MOST_REPEATED = 100


def read_body(request: Request, raw: bytes) -> bytes:
    """The decoded body of a request that was sent as `raw`. Raises: PayloadTooLarge past the bound (of what it decodes
    to), UnsupportedMediaType, BadRequest."""
    limit = settings().max_body_bytes
    encoding = encoding_of(request)
    if encoding != "identity":
        raw = _decode(raw, encoding, limit)
    if len(raw) > limit:
        raise PayloadTooLarge(f"a body may have at most {limit} bytes")
    return raw


def _decode(raw: bytes, encoding: str, limit: int) -> bytes:
    """At most `limit` + 1 bytes are ever produced, whatever the body would decode to."""
    body = b""
    for _ in range(1 if encoding == "deflate" else _MOST_PIECES):
        decoder = _DECODERS[encoding]()
        try:
            body += decoder.decompress(raw, limit + 1 - len(body))
        except (zlib.error, zstd.ZstdError):
            raise BadRequest(f"the body is not valid {encoding}", code="malformed_encoding") from None
        if len(body) > limit:
            return body
        if not decoder.eof:
            raise BadRequest(f"the body's {encoding} data is cut off", code="malformed_encoding")
        raw = decoder.unused_data
        if not raw:
            return body
    raise BadRequest(f"the body is {encoding} data in too many pieces", code="malformed_encoding")


def decoded_parts(raw: IO[bytes], encoding: str) -> Iterator[bytes]:
    """What a body in a file decodes to, in parts that are small whatever it holds. Raises: BadRequest."""
    data = raw.read(_PART)
    for _ in range(_MOST_PIECES):
        decoder = _DECODERS[encoding]()
        while not decoder.eof:
            try:
                part = decoder.decompress(data, _PART)
            except (zlib.error, zstd.ZstdError):
                raise BadRequest(f"the body is not valid {encoding}", code="malformed_encoding") from None
            # zlib leaves what it has not come to; zstd keeps that.
            data = getattr(decoder, "unconsumed_tail", b"")
            if part:
                yield part
            elif not data and not decoder.eof:
                data = raw.read(_PART)
                if not data:
                    raise BadRequest(f"the body's {encoding} data is cut off", code="malformed_encoding")
        data = decoder.unused_data or raw.read(_PART)
        if not data:
            return
    raise BadRequest(f"the body is {encoding} data in too many pieces", code="malformed_encoding")


def encoding_of(request: Request) -> str:
    """The coding of a request's body, `identity` for none. Raises: UnsupportedMediaType."""
    encoding = (request.header("content-encoding") or "identity").strip().lower()
    encoding = _ALIASES.get(encoding, encoding)
    if encoding != "identity" and encoding not in _DECODERS:
        known = ", ".join(_DECODERS)
        raise UnsupportedMediaType(f"Content-Encoding may be {known}", headers={"Accept-Encoding": known})
    return encoding


def parse_json(request: Request, raw: bytes) -> tuple[Any, bytes]:
    """The value, and its canonical form: the same bytes for whatever says the same, since neither spaces nor escapes
    nor the order of members count.

    Raises: UnsupportedMediaType unless JSON is declared; BadRequest for what is none, for an object that names a member
    twice, and for NUL, which no text in PostgreSQL can hold.
    """
    if (request.header("content-type") or "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("the body must be application/json", headers={"Accept": "application/json"})
    try:
        value = msgspec.json.decode(raw)
        canonical = msgspec.json.encode(value, order="deterministic")
        # As many colons, of members and within texts, as were sent: no member was lost because another of its name
        # followed. Only a colon that was written as an escape makes a count a guess.
        if raw.count(b":") != canonical.count(b":") or b"\\u003" in raw:
            json.loads(raw, object_pairs_hook=_each_once)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {_reason(raw, error)}", code="malformed_json") from None
    except RecursionError:
        raise _too_deep() from None
    # Each level has a bracket; few bodies have so many.
    if raw.count(b"[") + raw.count(b"{") > DEEPEST:
        _check_depth(value)
    if b"\\u0000" in canonical and _NUL.search(canonical):
        raise BadRequest("the body holds U+0000, which text cannot have", code="malformed_json")
    return value, canonical


def _check_depth(value: Any) -> None:
    """What looks through a body by calling itself may rely on it. Raises: BadRequest."""
    level = [value]
    for _ in range(DEEPEST + 1):
        parts = [one.values() if isinstance(one, dict) else one for one in level if isinstance(one, dict | list)]
        level = [below for part in parts for below in part]
        if not parts:
            return
    raise _too_deep()


def _reason(raw: bytes, error: Exception) -> str:
    """Why a body is no JSON; in words for what msgspec calls a character in a wrong place, or the end of the data."""
    if raw.startswith(_BOMS):
        return "it begins with a byte order mark: send UTF-8 without one"
    try:
        raw.decode()
    except UnicodeDecodeError as not_text:
        return f"it is not UTF-8 (byte {not_text.start})"
    if "truncated" in str(error) and _SURROGATE.search(raw):
        return "an escape in it is half of a character, or its end is missing"
    return str(error)


def _too_deep() -> BadRequest:
    return BadRequest(f"the body is nested more than {DEEPEST} deep", code="malformed_json")


def _each_once(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) != len(members):
        name = next(name for name, count in Counter(name for name, _ in members).items() if count > 1)
        raise BadRequest(f"the body has the member {name[:_MOST_REPEATED]!r} twice", code="malformed_json")
    return found
