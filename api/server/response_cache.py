"""Finished answers in this process, sent again without a thread: each checked with Redis after its request arrived.

An answer is kept under all that it was made for: the token, path, query and encoding. So nothing of one caller can
reach another, and what the caller may do is part of what is checked. Nearly all of its bytes are put together once.
"""

import time
from dataclasses import dataclass
from uuid import UUID

from api.compress import wanted_encoding
from api.reply import Reply
from api.request import Request
from api.routing import Route
from api.server.lru import Lru
from dues.cdn import is_shared
from dues.reads.freshness import Validator
from dues.reads.freshness.validator import ValidatorSet

Key = tuple[str | None, str, str, str | None]

# What an entry takes beside its bytes; and each of its tags.
_OVERHEAD, _PER_TAG = 2000, 100


@dataclass(slots=True)
class CachedResponse:
    """A 200. `fields` are its header fields as they go over the wire, but for those of the content alone, which are
    `content_fields`. user_id: the user it was made for. A cache in front may give to others what `is_shared`. What must
    still hold is worked out when the answer is first asked for again, which most never are."""

    etag: str
    fields: bytes
    content_fields: bytes
    body: bytes
    validators: tuple[Validator, ...]
    until: float
    route: Route
    user_id: UUID | None
    is_shared: bool
    validator_set: ValidatorSet | None = None

    @property
    def size(self) -> int:
        tags = sum([len(validator.tags) for validator in self.validators])
        words = sum([validator.concern.weight for validator in self.validators if validator.concern])
        return len(self.body) + len(self.fields) + _PER_TAG * tags + words + _OVERHEAD


_OF_CONTENT = frozenset(("Content-Type", "Content-Length", "Content-Encoding"))


def _lines(fields: list[tuple[str, str]]) -> bytes:
    return "".join([f"{name.lower()}: {value}\r\n" for name, value in fields]).encode("latin-1")


def cached(reply: Reply, route: Route) -> CachedResponse:
    """A reply with validators, as it is sent again."""
    fields = reply.fields()
    actor = reply.access.actor if reply.access else None
    return CachedResponse(
        reply.headers["ETag"],
        _lines([pair for pair in fields if pair[0] not in _OF_CONTENT]),
        _lines([pair for pair in fields if pair[0] in _OF_CONTENT]),
        reply.body or b"",
        reply.validators,
        reply.until,
        route,
        actor.user_id if actor else None,
        is_shared(reply.headers.get("Cache-Control", "")),
    )


class ResponseCache:
    """The answers that one process keeps, at most `max_bytes` of them."""

    def __init__(self, max_bytes: int) -> None:
        self._kept: Lru[CachedResponse] = Lru(max_bytes)

    @staticmethod
    def key_of(request: Request) -> Key:
        return request.token, request.path, request.query, wanted_encoding(request)

    def find(self, key: Key) -> CachedResponse | None:
        kept = self._kept.get(key)
        if kept is None or time.monotonic() >= kept.until:
            return None
        if kept.validator_set is None:
            kept.validator_set = ValidatorSet.over(kept.validators)
        return kept

    def keep(self, key: Key, response: CachedResponse) -> None:
        token, path, query, _ = key
        self._kept.put(key, response, response.size + len(token or "") + len(path) + len(query))
