"""Finished answers in this process, sent again without Flask: each checked with Redis after its request arrived.

An answer is kept under all that it was made for: the Authorization header, path, query and encoding. So nothing of
one caller can reach another, and what the caller may do is part of what is checked.
"""

import random
import re
import time
from dataclasses import dataclass, field

from api.compress import choose_encoding
from api.front.asgi import Headers, Scope
from api.front.checks import Watch
from api.front.threads import Finished
from api.http import entity_tags
from dues.reads.freshness import Proof
from dues.reads.freshness.memory import Memory

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:+/=-]{1,128}")

Key = tuple[bytes | None, str, bytes, str | None]

# What is another for each answer, and so is not kept.
_EACH_TIME = frozenset((b"x-request-id", b"x-request-duration", b"server-timing", b"ratelimit", b"ratelimit-policy"))


@dataclass(slots=True)
class Kept:
    """A 200 as it goes out. What to watch is worked out when it is first asked for again, which most never are."""

    headers: Headers
    body: bytes
    proofs: list[Proof]
    until: float
    route: str
    watch: Watch | None = None
    heads: dict[int, bytes] = field(default_factory=dict)


class Hits:
    """The answers that one process keeps, at most `max_bytes` of them."""

    def __init__(self, max_bytes: int) -> None:
        self._kept: Memory[Kept] = Memory(max_bytes)

    @staticmethod
    def key_of(scope: Scope, authorization: bytes | None, accept_encoding: bytes | None) -> Key:
        encoding = choose_encoding(accept_encoding.decode("latin-1")) if accept_encoding else None
        return authorization, scope["path"], scope["query_string"], encoding

    def find(self, key: Key) -> Kept | None:
        kept = self._kept.get(key)
        if kept is None or time.time() >= kept.until:
            return None
        if kept.watch is None:
            kept.watch = Watch.over(kept.proofs)
        return kept

    def forget(self, key: Key) -> None:
        self._kept.discard(key)

    def keep(self, key: Key, finished: Finished) -> None:
        """Keep Flask's answer, if it is one to be kept."""
        leftover = finished.leftover
        if finished.status != 200 or not leftover.proofs:
            return
        headers = [(name, value) for name, value in finished.headers if name not in _EACH_TIME]
        kept = Kept(headers, finished.body, leftover.proofs, leftover.until, leftover.route)
        # An entry's tags weigh too, each about a hundred bytes, and its headers and the rest about two kilobytes.
        tags = sum(len(proof.tags) for proof in leftover.proofs)
        size = len(finished.body) + sum(map(len, key_bytes(key))) + 100 * tags + 2000
        self._kept.put(key, kept, size)


def key_bytes(key: Key) -> tuple[bytes, ...]:
    authorization, path, query, encoding = key
    return authorization or b"", path.encode(), query, (encoding or "").encode()


def answer_of(kept: Kept, status: int, request_id: bytes, seconds: float) -> tuple[Headers, bytes]:
    """Headers and body of a hit: a 200, or a 304 for a client that has it."""
    headers = kept.headers if status == 200 else without_body(kept.headers)
    own = (
        (b"x-request-id", request_id),
        (b"x-request-duration", b"%.6f" % seconds),
        (b"server-timing", b'cache;desc=hit, db;dur=0;desc="0 queries", app;dur=%.2f' % (seconds * 1000)),
    )
    return [*headers, *own], kept.body if status == 200 else b""


def bytes_of(kept: Kept, status: int, server: bytes, limit: bytes, request_id: bytes, seconds: float) -> bytes:
    """The same as it goes over the wire; `server` and `limit` are headers that are lines already."""
    if status not in kept.heads:
        headers = kept.headers if status == 200 else without_body(kept.headers)
        lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
        kept.heads[status] = (
            b"HTTP/1.1 200 OK\r\n" + lines if status == 200 else b"HTTP/1.1 304 Not Modified\r\n" + lines
        )
    return (
        b"%b%b%bx-request-id: %b\r\nx-request-duration: %.6f\r\n"
        b'server-timing: cache;desc=hit, db;dur=0;desc="0 queries", app;dur=%.2f\r\n\r\n%b'
        % (kept.heads[status], server, limit, request_id, seconds, seconds * 1000, kept.body if status == 200 else b"")
    )


def is_known(none_match: bytes | None, headers: Headers) -> bool:
    """Whether If-None-Match names the answer with these headers, in whatever encoding the client has it."""
    if not none_match:
        return False
    if (b"etag", none_match) in headers:
        return True
    ours = next((value.decode("latin-1") for name, value in headers if name == b"etag"), "")
    theirs = entity_tags(none_match.decode("latin-1"))
    return bool(ours) and any(tag in ("*", *entity_tags(ours)) for tag in theirs)


def without_body(headers: Headers) -> Headers:
    """The headers of a 304 in place of a 200."""
    return [pair for pair in headers if pair[0] not in (b"content-length", b"content-type", b"content-encoding")]


def request_id_of(sent: bytes | None) -> bytes:
    """The client's own where it is fit for a log, else a new one: it tells requests apart and keeps no secret."""
    return sent if sent and _REQUEST_ID.fullmatch(sent) else b"%032x" % random.getrandbits(128)
