"""A read's answer as it goes out again and again: nearly all of its bytes put together once, for a 200 and a 304."""

import random
import re
from dataclasses import dataclass

from api.http import entity_tags
from api.server.asgi import Headers
from api.server.exchange import Visit
from api.server.thread_pool import Finished
from api.telemetry import is_verbose, log_request
from dues.cdn import SHARED
from dues.reads.freshness import Validator, ValidatorSet

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")

# What is another for each answer, and so is not kept.
_EACH_TIME = frozenset((b"x-request-id", b"x-request-duration", b"server-timing", b"ratelimit", b"ratelimit-policy"))
# What a 304 does not have.
_OF_BODY = frozenset((b"content-length", b"content-type", b"content-encoding"))


@dataclass(slots=True)
class Kept:
    """A 200. `lines` are its headers as they go over the wire, but for those of the body alone, which are `body_lines`.
    A cache in front may give to others what `is_shared`. What to watch is worked out when it is first asked for again,
    which most never are."""

    etag: bytes
    lines: bytes
    body_lines: bytes
    body: bytes
    validators: tuple[Validator, ...]
    until: float
    route: str
    is_shared: bool
    watch: ValidatorSet | None = None


def kept_of(finished: Finished) -> Kept:
    """Flask's answer."""
    leftover = finished.leftover
    headers = [pair for pair in finished.headers if pair[0] not in _EACH_TIME]
    return Kept(
        etag_of(headers),
        _lines([pair for pair in headers if pair[0] not in _OF_BODY]),
        _lines([pair for pair in headers if pair[0] in _OF_BODY]),
        finished.body,
        tuple(leftover.validators),
        leftover.until,
        leftover.route,
        is_shared(headers),
    )


def _lines(headers: Headers) -> bytes:
    return b"".join([b"%b: %b\r\n" % pair for pair in headers])


def own_lines(visit: Visit, seconds: float, db_s: float) -> bytes:
    """The headers that are an answer's own, as lines: its limit, its id, how long it took, and PostgreSQL for it (below
    zero: it was not asked)."""
    request_id = visit.request_id = request_id_of(visit.request_id)
    limit = visit.limit.lines(visit.used) if visit.limit else b""
    if db_s < 0:
        return (
            b"%bx-request-id: %b\r\nx-request-duration: %.6f\r\n"
            b'server-timing: cache;desc=hit, db;dur=0;desc="0 queries", app;dur=%.2f\r\n'
            % (limit, request_id, seconds, seconds * 1000)
        )
    return (
        b"%bx-request-id: %b\r\nx-request-duration: %.6f\r\n"
        b'server-timing: cache;desc=miss, db;dur=%.2f;desc="1 query", app;dur=%.2f\r\n'
        % (limit, request_id, seconds, db_s * 1000, (seconds - db_s) * 1000)
    )


def bytes_of(kept: Kept, status: int, server: bytes, own: bytes) -> bytes:
    """The whole of an answer: a 200, or a 304 for who has it. `server` are the server's own headers, as lines."""
    if status == 304:
        return b"HTTP/1.1 304 Not Modified\r\n%b%b%b\r\n" % (server, kept.lines, own)
    return b"HTTP/1.1 200 OK\r\n%b%b%b%b\r\n%b" % (server, kept.lines, kept.body_lines, own, kept.body)


def parts_of(kept: Kept, status: int, own: bytes) -> tuple[Headers, bytes]:
    """Headers and body, for a server that wants them apart."""
    head, _, body = bytes_of(kept, status, b"", own).partition(b"\r\n\r\n")
    pairs = [line.partition(b": ") for line in head.split(b"\r\n")[1:]]
    return [(name, value) for name, _, value in pairs], body


def is_known(none_match: bytes | None, etag: bytes) -> bool:
    """Whether If-None-Match names the answer with this ETag, in whatever encoding the client has it."""
    if not none_match:
        return False
    if none_match == etag:
        return True
    theirs = entity_tags(none_match.decode("latin-1"))
    return bool(etag) and any(tag in ("*", *entity_tags(etag.decode("latin-1"))) for tag in theirs)


def etag_of(headers: Headers) -> bytes:
    return _value(headers, b"etag")


def is_shared(headers: Headers) -> bool:
    """Whether a cache in front may give an answer with these to others."""
    return SHARED.encode() in _value(headers, b"cache-control")


def _value(headers: Headers, name: bytes) -> bytes:
    return next((value for each, value in headers if each == name), b"")


def without_body(headers: Headers) -> Headers:
    """The headers of a 304 in place of a 200."""
    return [pair for pair in headers if pair[0] not in _OF_BODY]


def request_id_of(sent: bytes | None) -> bytes:
    """The client's own where it is fit for a log, else a new one: it tells requests apart and keeps no secret."""
    return sent if sent and _REQUEST_ID.fullmatch(sent) else b"%032x" % random.getrandbits(128)


def log_read(visit: Visit, route: str, status: int, seconds: float, db_s: float, slow_s: float) -> None:
    """As Flask's telemetry does of its requests: a warning where it took more than `slow_s`, else for debugging."""
    slow = seconds > slow_s
    if not (slow or is_verbose()):
        return
    log_request(
        visit.method,
        route,
        visit.path,
        status,
        seconds,
        queries=int(db_s >= 0),
        db_s=max(db_s, 0.0),
        slow=slow,
        request_id=request_id_of(visit.request_id).decode("latin-1"),
    )
