"""Gives a read's answer: the body as it goes out, its ETag, and the tags it depends on.

A read is planned first (`ReadPlan`: what is asked, and the one statement that answers it) and then executed: by
`execute()`, from the cache where it is fresh there, else from PostgreSQL; or by the server, which does the same on its
loop (api/server/reads.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Any, Protocol
from urllib.parse import quote, unquote_plus
from uuid import UUID

import ujson
from psycopg2.extensions import adapt

from dues.errors import NotFound
from dues.postgres import fetch_row, fetch_text_later, in_transaction, is_spread
from dues.reads.compile import compile_list, compile_one
from dues.reads.cursor import read_cursor, write_cursor
from dues.reads.estimates import Estimates
from dues.reads.freshness import Computed, Result, Validator, read
from dues.reads.freshness.journal import word_of
from dues.reads.freshness.writer import fetch_row_to_answer
from dues.reads.query import CursorPage, Page, Query, normal_text
from dues.reads.resource import Resource, Scope
from dues.reads.shape import bind, shape_of
from dues.settings import settings

Row = tuple[Any, ...] | None

# What a single row's answer is made of, as one text.
_TEXT = "select concat(one.version, e'\\n', one.item) from ({read}) as one(item, version)"


@dataclass(frozen=True)
class Answer:
    """A finished read: `body` is JSON in UTF-8, `etag` is strong and quoted, `tags` are the cache tags it depends on,
    beside the journal where it `follows` that. `hit` tells whether it came from the cache, `validator` is how to find
    out later whether it is still fresh (None: it may not be kept), and `expires_at` a time of `time.monotonic()` until
    which it may be kept."""

    body: bytes
    etag: str
    tags: tuple[str, ...] = ()
    hit: bool = False
    validator: Validator | None = None
    expires_at: float = 0.0
    follows: bool = False


class ReadPlan(Protocol):
    """A read that is to be made. `key` names its answer in the cache: the resource, whose rows, and the parameters as
    they were sent; `tags` are what the answer depends on, none where it may not be kept, and where it `follows` the
    journal, on what it says itself."""

    key: str
    tags: tuple[str, ...]
    follows: bool

    def statement(self) -> tuple[str, Mapping[str, object]]:
        """The one statement and its values. Raises: InvalidParameter for a cursor that is not of this list."""
        ...

    def computed(self, row: Row) -> Computed:
        """What the statement's row comes to. Raises: NotFound."""
        ...


def plan_one(resource: Resource, scope: Scope, query: Query, text: str = "") -> ReadPlan:
    """The row that `scope` names, e.g. `{"store_id": …, "id": …}`; `query` was parsed from the query string `text`."""
    return _SingleRow(resource, scope, query, "one", text)


def plan_list(resource: Resource, scope: Scope, query: Query, path: str, text: str) -> ReadPlan:
    """A page of the rows within `scope`. `path` and the query string `text` are the request's, for the links; `query`
    was parsed from `text`."""
    kind = _CursorPage if isinstance(query.page, CursorPage) else _NumberedPage
    return kind(resource, scope, query, path, text)


def execute(plan: ReadPlan) -> Answer:
    """Take the answer from the cache, or make it. Raises: NotFound where there is no such row, or the list's `within`
    does not hold; InvalidParameter for a cursor that is not of this list."""

    def compute() -> Computed:
        sql, values = plan.statement()
        row = fetch_row_to_answer(sql, values) if in_transaction() else fetch_row(sql, values, hot=True)
        return plan.computed(row)

    if plan.tags:
        return answer_of(plan, read(plan.key, plan.tags, compute, follows=plan.follows))
    return answer_of(plan, Result(compute().payload, False, None))


def read_later(resource: Resource, scope: Scope, query: Query) -> Callable[[], Answer]:
    """The row that `scope` names as it is now in the caller's transaction(), where the answer can wait. Returns: what
    gives it, to be called before the commit. Raises there: NotFound."""
    plan = _SingleRow(resource, scope, query, "one", "")
    sql, values = plan.statement()
    text = fetch_text_later(_TEXT.format(read=sql), values)

    def answer() -> Answer:
        version, _, item = text().partition("\n")
        row = (item, version or None, "", None, None, None) if item else None
        return answer_of(plan, Result(plan.computed(row).payload, False, None))

    return answer


def answer_of(plan: ReadPlan, result: Result) -> Answer:
    """The answer that `computed()` packed."""
    etag, _, body = result.payload.partition(b"\n")
    return Answer(body, etag.decode(), plan.tags, result.hit, result.validator, result.expires_at, plan.follows)


class _Planned:
    def __init__(self, resource: Resource, scope: Scope, query: Query, path: str, text: str) -> None:
        # Ids as text, which is what keys, tags and statements are made of; made once, since it takes Python long.
        self.scope = {name: str(value) if isinstance(value, UUID) else value for name, value in scope.items()}
        self.resource, self.query, self.path, self.text = resource, query, path, normal_text(text)
        self.key = f"{resource.name} {path} {sorted(self.scope.items())} {self.text}"
        self.apart = resource.apart if resource.apart and is_spread() else None
        # On a thread, then, since there are two statements.
        self.tags = () if self.apart else tuple(resource.tags(self.scope))
        self.follows = bool(resource.words)

    def _computed(
        self, body: bytes, snapshot: str, life_s: float | None, words: Sequence[bytes | None], version: str = ""
    ) -> Computed:
        payload = f'"{version}{digest(body)}"\n'.encode() + body
        if not self.follows:
            return Computed(payload, snapshot, life_s)
        shown, audience = (bytes(packed or b"") for packed in (*words, None)[:2])
        return Computed(payload, snapshot, life_s, shown + self._subjects(), audience)

    def _subjects(self) -> bytes:
        subjects = self.resource.subjects(self.scope)
        return b"".join([each if isinstance(each, bytes) else word_of(UUID(each)) for each in subjects])

    def _bind(self) -> dict[str, object]:
        return bind(self.query, self.scope, self.resource)

    def _with_apart(self, sql: str, values: dict[str, object]) -> tuple[str, Mapping[str, object]]:
        """A statement with what is apart, which is read now."""
        if self.apart is None:
            return sql, values
        (rows,) = fetch_row(self.apart.query, values) or ("[]",)
        return self.apart.given(sql), {**values, "apart": rows}

    def _list(self, form: str) -> tuple[str, str]:
        return compile_list(shape_of(self.resource, self.scope, self.query, form))

    def _link_base(self) -> str:
        """The part of a list's links that is the same on every page, as the client wrote it: `page` or `cursor`
        follows."""
        kept = "".join(f"{part}&" for part in self.text.split("&") if part and _name(part) not in ("page", "cursor"))
        base = f"{self.path}?{kept}"
        # A server hands on bytes that are no ASCII as Latin-1.
        return base if base.isascii() else quote(self.path, "/") + "?" + quote(kept.encode("latin-1"), "%&=+,[]:")


class _SingleRow(_Planned):
    def statement(self) -> tuple[str, Mapping[str, object]]:
        return self._with_apart(compile_one(shape_of(self.resource, self.scope, self.query, None)), self._bind())

    def computed(self, row: Row) -> Computed:
        if row is None:
            raise NotFound(f"there is no such {self.resource.name.lower()}")
        text, version, snapshot, life_s, *words = row
        return self._computed(text.encode(), snapshot, life_s, words, f"{version}." if version is not None else "")


_estimates = Estimates()


class _NumberedPage(_Planned):
    _estimated = ""

    def statement(self) -> tuple[str, Mapping[str, object]]:
        page = self._page
        sql, counted = self._list("page exact" if page.exact else "page")
        values = {**self._bind(), "offset": (page.number - 1) * page.size}
        if counted and not page.exact:
            self._estimated = values["estimated"] = _render(counted, values)
            values["known"] = _estimates.get(self._estimated)
        return self._with_apart(sql, values)

    @property
    def _page(self) -> Page:
        assert isinstance(self.query.page, Page)
        return self.query.page

    def computed(self, row: Row) -> Computed:
        assert row
        page = self._page
        data, fetched, snapshot, life_s, is_there, total, *words = row
        _require(is_there)
        more, exact = fetched > page.size, total >= 0
        if not exact:
            if self._estimated:
                _estimates.keep(self._estimated, -total)
            # The planner may err; what was fetched cannot.
            offset = (page.number - 1) * page.size
            total = max(-total, offset + fetched) if more else min(-total, offset)
        last = -(-total // page.size)
        last = max(1, max(last, page.number + 1) if more else min(last, page.number))
        meta = {
            "current_page": page.number,
            "last_page": last,
            "per_page": page.size,
            "total": total,
            "total_is_exact": exact,
        }
        link = f"{self._link_base()}page="
        if page.drf:
            return self._computed(_drf_page(data, page, total, last, link, more=more), snapshot, life_s, words)
        links = {
            "self": f"{link}{page.number}",
            "first": f"{link}1",
            "prev": f"{link}{min(page.number - 1, last)}" if page.number > 1 else None,
            "next": f"{link}{page.number + 1}" if more else None,
            "last": f"{link}{last}",
        }
        return self._computed(_envelope(data, meta, links), snapshot, life_s, words)


class _CursorPage(_Planned):
    form = "first"

    @property
    def _page(self) -> CursorPage:
        assert isinstance(self.query.page, CursorPage)
        return self.query.page

    def statement(self) -> tuple[str, Mapping[str, object]]:
        page, values = self._page, self._bind()
        if page.cursor:
            forward, keys = read_cursor(page.cursor, binding=self._binding, secret=settings().secret_key)
            self.form = "next" if forward else "prev" if keys else "last"
            values |= {f"after{i}": key for i, key in enumerate(keys)}
        return self._with_apart(self._list(self.form)[0], values)

    def computed(self, row: Row) -> Computed:
        assert row
        page, base = self._page, self._link_base()
        data, fetched, snapshot, life_s, is_there, first, last, behind, *words = row
        _require(is_there)
        beyond, forward = fetched > page.size, self.form in ("first", "next")
        more, before = (beyond, behind) if forward else (behind, beyond)
        # Where all rows on this side of the cursor have been deleted, those on the other side are the whole list: going
        # on leads to its beginning, and going back to its end.
        links = {
            "self": f"{base}cursor={page.cursor}",
            "first": f"{base}cursor=",
            "prev": self._link(base, first or "[]", forward=False) if before else None,
            "next": (self._link(base, last, forward=True) if last else f"{base}cursor=") if more else None,
            "last": None,
        }
        return self._computed(_envelope(data, {"limit": page.size, "has_more": more}, links), snapshot, life_s, words)

    def _link(self, base: str, keys: str, *, forward: bool) -> str:
        cursor = write_cursor(keys, forward=forward, binding=self._binding, secret=settings().secret_key)
        return f"{base}cursor={cursor}"

    @cached_property
    def _binding(self) -> str:
        conditions = [(c.name, c.operator, str(c.value)) for c in self.query.conditions]
        scope = sorted((name, str(value)) for name, value in self.scope.items())
        return repr((self.resource.name, scope, conditions, self.query.sort, self.query.words))


def digest(body: bytes) -> str:
    return blake2b(body, digest_size=12).hexdigest()


def _name(part: str) -> str:
    name = part.partition("=")[0]
    return unquote_plus(name) if "%" in name else name


def _require(is_there: bool) -> None:
    if not is_there:
        raise NotFound("there is no such resource")


def _envelope(data: str, meta: dict[str, object], links: dict[str, str | None]) -> bytes:
    head = _dumps({"meta": meta, "links": links})
    return f'{{"data":{data},{head[1:]}'.encode()


def _drf_page(data: str, page: Page, total: int, last: int, link: str, *, more: bool) -> bytes:
    head = {
        "count": total,
        "next": f"{link}{page.number + 1}" if more else None,
        "previous": f"{link}{min(page.number - 1, last)}" if page.number > 1 else None,
        "current_page": page.number,
        "total_pages": last,
    }
    return f'{_dumps(head)[:-1]},"results":{data}}}'.encode()


def _dumps(document: Mapping[str, object]) -> str:
    return ujson.dumps(document, escape_forward_slashes=False, ensure_ascii=False)


def _render(statement: str, values: Mapping[str, object]) -> str:
    """A statement with its values written into it as literals, quoted by psycopg2."""
    return statement % {name: _literal(value) for name, value in values.items()}


def _literal(value: object) -> str:
    adapted = adapt(value)
    if hasattr(adapted, "encoding"):
        adapted.encoding = "utf8"
    return str(adapted.getquoted().decode())
