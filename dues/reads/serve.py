"""Gives a read's answer: the body as it goes out, its ETag, and the tags it depends on.

From the cache where it is fresh there, else by the one statement that makes it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from urllib.parse import quote, unquote_plus
from uuid import UUID

import ujson
from psycopg2.extensions import adapt

from dues.db import fetch_row
from dues.errors import NotFound
from dues.reads.compile import bind, compile_list, compile_one, page_form, shape_of
from dues.reads.cursor import read_cursor, write_cursor
from dues.reads.freshness import Computed, Proof, Result, read
from dues.reads.query import CursorPage, Page, Query
from dues.reads.resource import Resource, Scope
from dues.settings import settings


@dataclass(frozen=True)
class Answer:
    """A finished read: `body` is JSON in UTF-8, `etag` is strong and quoted, `tags` are the cache tags it depends on,
    `hit` tells whether it came from the cache, `proof` is how to find out later whether it is still fresh (None: it
    may not be kept), and `expires_at` a time of the clock on the wall until which it may be kept."""

    body: bytes
    etag: str
    tags: tuple[str, ...] = ()
    hit: bool = False
    proof: Proof | None = None
    expires_at: float = 0.0


def _texts(scope: Scope) -> Scope:
    """Ids as text, which is what keys, tags and statements are made of; made once, since it takes Python long."""
    return {name: str(value) if isinstance(value, UUID) else value for name, value in scope.items()}


def read_one(resource: Resource, scope: Scope, query: Query, text: str = "") -> Answer:
    """The row that `scope` names, e.g. `{"store_id": …, "id": …}`; `query` was parsed from the query string `text`.

    Raises: NotFound.
    """
    scope = _texts(scope)

    def compute() -> Computed:
        row = fetch_row(compile_one(shape_of(resource, scope, query, None)), bind(query, scope, resource), hot=True)
        if row is None:
            raise NotFound(f"there is no such {resource.name.lower()}")
        text, version, snapshot, life_s = row
        return _computed(text.encode(), f"{version}." if version is not None else "", snapshot, life_s)

    return _read("one", resource, scope, text, compute)


def read_list(resource: Resource, scope: Scope, query: Query, path: str, text: str) -> Answer:
    """A page of the rows within `scope`. `path` and the query string `text` are the request's, for the links; `query`
    was parsed from `text`.

    Raises: InvalidParameter for a cursor that is not of this list; NotFound where the resource's `within` does not
    hold.
    """
    scope = _texts(scope)

    def compute() -> Computed:
        base = _link_base(path, text)
        if isinstance(query.page, CursorPage):
            return _cursor_page(resource, scope, query, query.page, base)
        return _numbered_page(resource, scope, query, query.page, base)

    return _read(path, resource, scope, text, compute)


def _read(kind: str, resource: Resource, scope: Scope, text: str, compute: Callable[[], Computed]) -> Answer:
    """Take the answer from the cache, or make it. What tells answers apart is in the key: the resource, whose rows,
    and the parameters as they were sent."""
    tags = tuple(resource.tags(scope))
    if tags:
        result = read(f"{resource.name} {kind} {sorted(scope.items())} {text}", tags, compute)
    else:
        result = Result(compute().payload, False, None)
    etag, _, body = result.payload.partition(b"\n")
    return Answer(body, etag.decode(), tags, result.hit, result.proof, result.expires_at)


def _computed(body: bytes, version: str, snapshot: str, life_s: float | None) -> Computed:
    return Computed(f'"{version}{digest(body)}"\n'.encode() + body, snapshot, life_s)


def digest(body: bytes) -> str:
    return blake2b(body, digest_size=12).hexdigest()


def _link_base(path: str, text: str) -> str:
    """The part of a list's links that is the same on every page, as the client wrote it: `page` or `cursor` follows."""
    kept = "".join(f"{part}&" for part in text.split("&") if part and _name(part) not in ("page", "cursor"))
    base = f"{path}?{kept}"
    # A server hands on bytes that are no ASCII as Latin-1.
    return base if base.isascii() else quote(path, "/") + "?" + quote(kept.encode("latin-1"), "%&=+,[]:")


def _name(part: str) -> str:
    name = part.partition("=")[0]
    return unquote_plus(name) if "%" in name else name


def _numbered_page(resource: Resource, scope: Scope, query: Query, page: Page, base: str) -> Computed:
    statement, counted = compile_list(shape_of(resource, scope, query, page_form(page, forward=True)))
    offset = (page.number - 1) * page.size
    values = {**bind(query, scope, resource), "offset": offset}
    if not page.exact:
        values["estimated"] = _render(counted, values)
    row = fetch_row(statement, values)
    assert row
    data, fetched, snapshot, life_s, is_there, total = row
    _require(is_there)
    more, exact = fetched > page.size, total >= 0
    if not exact:
        # The planner may err; what was fetched cannot.
        total = max(-total, offset + fetched) if more else min(-total, offset)
    last = -(-total // page.size)
    last = max(1, max(last, page.number + 1) if more else min(last, page.number))

    def link(number: int) -> str:
        return f"{base}page={number}"

    meta = {
        "current_page": page.number,
        "last_page": last,
        "per_page": page.size,
        "total": total,
        "total_is_exact": exact,
    }
    links = {
        "self": link(page.number),
        "first": link(1),
        "prev": link(min(page.number - 1, last)) if page.number > 1 else None,
        "next": link(page.number + 1) if more else None,
        "last": link(last),
    }
    return _computed(_envelope(data, meta, links), "", snapshot, life_s)


def _cursor_page(resource: Resource, scope: Scope, query: Query, page: CursorPage, base: str) -> Computed:
    secret, binding = settings().secret_key, _binding(resource, scope, query)
    values = bind(query, scope, resource)
    forward = True
    if page.cursor:
        forward, keys = read_cursor(page.cursor, binding=binding, secret=secret)
        values |= {f"after{i}": key for i, key in enumerate(keys)}
    statement, _ = compile_list(shape_of(resource, scope, query, page_form(page, forward)))
    row = fetch_row(statement, values)
    assert row
    data, fetched, snapshot, life_s, is_there, first, last = row
    _require(is_there)
    beyond = fetched > page.size
    # Who came here by a cursor came from rows on the other side of it.
    more, before = (beyond, bool(page.cursor)) if forward else (True, beyond)

    def link(keys: str | None, forward: bool) -> str | None:
        if keys is None:
            return None
        cursor = write_cursor(ujson.loads(keys), forward=forward, binding=binding, secret=secret)
        return f"{base}cursor={cursor}"

    links = {
        "self": f"{base}cursor={page.cursor}",
        "first": f"{base}cursor=",
        "prev": link(first, False) if before else None,
        "next": link(last, True) if more else None,
        "last": None,
    }
    return _computed(_envelope(data, {"limit": page.size, "has_more": more}, links), "", snapshot, life_s)


def _require(is_there: bool) -> None:
    if not is_there:
        raise NotFound("there is no such resource")


def _binding(resource: Resource, scope: Scope, query: Query) -> str:
    conditions = [(c.name, c.operator, str(c.value)) for c in query.conditions]
    return repr((resource.name, sorted((k, str(v)) for k, v in scope.items()), conditions, query.sort))


def _envelope(data: str, meta: dict[str, object], links: dict[str, str | None]) -> bytes:
    head = ujson.dumps({"meta": meta, "links": links}, escape_forward_slashes=False, ensure_ascii=False)
    return f'{{"data":{data},{head[1:]}'.encode()


def _render(statement: str, values: Mapping[str, object]) -> str:
    """A statement with its values written into it as literals, quoted by psycopg2."""
    return statement % {name: _literal(value) for name, value in values.items()}


def _literal(value: object) -> str:
    adapted = adapt(value)
    if hasattr(adapted, "encoding"):
        adapted.encoding = "utf8"
    return str(adapted.getquoted().decode())
