"""A reply, as data: whoever serves a request can send it, and do beside it what its fields ask for."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol
from uuid import UUID

import ujson

from dues.reads import Answer, Query
from dues.reads.freshness import Validator
from dues.stores.access import Access
from dues.sync.moved import Watch


class Chunks(Protocol):
    """A file's bytes in parts; reading one may block for as long as a disk does."""

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a client waits for, and by what right: its token's.

    version: what it has seen of the job; query: the fields of the status document that it wants. seconds: how long
    it waits, at most; of a stream, until the next sign of life. finish: of a request that began the job, makes the
    finished resource's reply; such a client waits until the job is done, others until it changes. is_unchecked: the
    right to see the job has not been looked at yet.
    """

    job_id: UUID
    version: int
    token_id: UUID
    query: Query
    seconds: float
    finish: "Callable[[], Reply] | None" = None
    streams: bool = False
    is_unchecked: bool = False

    def at_most(self, seconds: float) -> "Waiting":
        """The same, for no longer than that."""
        return self if self.seconds <= seconds else replace(self, seconds=seconds)


@dataclass(frozen=True, slots=True)
class Poke:
    """A client that has nothing to pull waits for something, `seconds` at most; `finish` pulls it."""

    watch: Watch
    seconds: float
    finish: "Callable[[], Reply]"


@dataclass(slots=True)
class Reply:
    """What answers a request.

    body: the content (JSON text in UTF-8, unless `mimetype` says otherwise), or None for none.
    file: read part by part and sent as the content, of which `headers` tell the length.
    waiting: the client wants to be held until there is more to say (api/long_poll.py); a server that has no room for it
    sends the reply as it is.
    poke: the same of a client that waits for changes (api/pokes.py).
    validators: how to find out later whether this is still the answer, until `until` (of `time.monotonic()`) at most;
    none where it may not be kept. hit: whether a cache had it. access: what the caller was found to be allowed.
    unread: of a write that is one of several in a transaction(), gives the answer whose body and ETag are its own; see
    `read()`. queries, db_s: how many statements it took, and how many seconds of PostgreSQL's.
    """

    body: bytes | None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    mimetype: str = "application/json"
    file: Chunks | None = None
    waiting: Waiting | None = None
    poke: Poke | None = None
    validators: tuple[Validator, ...] = ()
    until: float = 0.0
    hit: bool = False
    access: Access | None = None
    unread: Callable[[], Answer] | None = None
    queries: int = 0
    db_s: float = 0.0

    def read(self) -> None:
        """Have the body that could wait, and its ETag. Raises: NotFound where the row is not there."""
        if self.unread:
            answer = self.unread()
            self.body, self.unread = answer.body, None
            self.headers["ETag"] = answer.etag

    def fields(self) -> list[tuple[str, str]]:
        """Its header fields, those of its content included."""
        found = list(self.headers.items())
        streams = self.waiting is not None and self.waiting.streams
        if self.file is not None or streams:
            found.append(("Content-Type", self.mimetype))
        elif self.body is not None:
            found += [("Content-Type", self.mimetype), ("Content-Length", str(len(self.body)))]
        return found


def json_reply(document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    body = ujson.dumps(document, ensure_ascii=False, escape_forward_slashes=False, allow_nan=False)
    return Reply(body.encode(), status, dict(headers or {}))


def no_content() -> Reply:
    return Reply(None, 204)
