"""A request's body: bounded in size, decoded, parsed, and validated with every fault reported at once."""

import re
import zlib
from collections.abc import Iterator
from typing import Any, TypeVar, get_args, get_origin

import msgspec
import ujson
import zstandard

from api.request import Request
from dues.errors import BadRequest, Fault, PayloadTooLarge, UnsupportedMediaType, ValidationFailed
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


def validate(value: Any, struct: type[T]) -> T:
    """`value` as a `struct`. Raises: ValidationFailed with all faults, each with its JSON pointer."""
    try:
        return msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        faults = find_faults(value, struct) or [Fault(code="invalid", detail=_sentence(str(error)), pointer="#")]
    raise ValidationFailed("; ".join(f"{f.pointer}: {f.detail}" for f in faults), errors=faults)


def find_faults(value: Any, struct: type[msgspec.Struct], pointer: str = "#") -> list[Fault]:
    """Every fault of a document that msgspec refused: it stops at the first, so each field is converted alone."""
    if not isinstance(value, dict):
        return [Fault(code="type", detail="must be an object", pointer=pointer)]
    faults = []
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    for name in value.keys() - fields.keys():
        faults.append(Fault(code="unknown", detail="is not a field of this resource", pointer=_join(pointer, name)))
    for name, field in fields.items():
        at = _join(pointer, name)
        if name not in value:
            if field.required:
                faults.append(Fault(code="required", detail="is required", pointer=at))
            continue
        faults += _field_faults(value[name], field.type, at)
    return sorted(faults, key=lambda fault: fault.pointer)


def _field_faults(value: Any, kind: Any, pointer: str) -> list[Fault]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        parts = list(_parts(kind))
        structs = [part for part in parts if isinstance(part, type) and issubclass(part, msgspec.Struct)]
        if structs and isinstance(value, dict):
            return find_faults(value, structs[0], pointer)
        items = [get_args(part)[0] for part in parts if get_origin(part) is list]
        if items and isinstance(value, list):
            faults = [f for i, item in enumerate(value) for f in _field_faults(item, items[0], f"{pointer}/{i}")]
            if faults:
                return faults
        message, _, path = str(error).partition(" - at `$")
        tail = "".join("/" + part for part in re.findall(r"[^.\[\]`]+", path))
        return [Fault(code=_code(message), detail=_detail(message, parts), pointer=pointer + tail)]
    return []


def _parts(kind: Any) -> Iterator[Any]:
    """A type, and what it is made of down to the items of a list: for `Name | UnsetType` also `Name`, its Meta, ..."""
    yield kind
    if get_origin(kind) is not list:
        for part in get_args(kind):
            yield from _parts(part)


def _detail(message: str, parts: list[Any]) -> str:
    """In words. Whoever broke a pattern is told what it describes: the pattern itself helps nobody."""
    described = [part.description for part in parts if isinstance(part, msgspec.Meta) and part.description]
    return f"must be: {described[0]}" if described and "matching regex" in message else _sentence(message)


def _join(pointer: str, name: str) -> str:
    return f"{pointer}/" + name.replace("~", "~0").replace("/", "~1")


_CODES: tuple[tuple[str, str], ...] = (
    ("Expected `str` of length", "length"),
    ("Expected `array` of length", "length"),
    ("matching regex", "pattern"),
    (">=", "range"),
    ("<=", "range"),
    ("Invalid enum value", "choice"),
    ("Invalid", "format"),
    ("got `", "type"),
)


def _code(message: str) -> str:
    return next((code for part, code in _CODES if part in message), "invalid")


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:].replace("`", "")
