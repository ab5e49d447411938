"""Finished answers in this process, sent again without Flask: each checked with Redis after its request arrived.

An answer is kept under all that it was made for: the Authorization header, path, query and encoding. So nothing of
one caller can reach another, and what the caller may do is part of what is checked.
"""

import time

from api.compress import choose_encoding
from api.server.asgi import Scope
from api.server.cached_response import Kept, kept_of
from api.server.lru import Memory
from api.server.thread_pool import Finished
from dues.reads.freshness import ValidatorSet

Key = tuple[bytes | None, str, bytes, str | None]


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
            kept.watch = ValidatorSet.over(kept.validators)
        return kept

    def keep(self, key: Key, finished: Finished) -> None:
        """Keep Flask's answer, if it is one to be kept."""
        if finished.status == 200 and finished.leftover.validators:
            self.put(key, kept_of(finished))

    def put(self, key: Key, kept: Kept) -> None:
        """Keep an answer, which has validators."""
        # An entry's tags weigh too, each about a hundred bytes, and its headers and the rest about two kilobytes.
        tags = sum([len(validator.tags) for validator in kept.validators])
        authorization, path, query, _ = key
        size = len(kept.body) + len(authorization or b"") + len(path) + len(query) + 100 * tags + 2000
        self._kept.put(key, kept, size)
