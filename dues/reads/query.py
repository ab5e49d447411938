"""The place a request's parameters become a query, and pages are defined.

Parameters: `fields`, `include`, `sort`, the resource's filters, and one of two forms of page:
`page` and `per_page` (or `page_size`) with a total, or `cursor` and `limit` without; `q` where a resource is searched.
Whatever else is sent is refused by name.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import unquote_plus
from uuid import UUID

from sqlalchemy import types

from dues.clock import parse_moment
from dues.errors import Fault, InvalidParameter
from dues.ids import parse_id
from dues.reads.resource import Column, Equal, Flag, Range, Resource
from dues.reads.selection import Selection, select

DEFAULT_ROWS, MAX_ROWS = 20, 100
# Deeper than any list, and far inside a bigint once multiplied by MAX_ROWS.
MAX_PAGE = 10**12
# Characters of a search.
MAX_WORDS = 200
OPERATORS = {"": "=", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}

# The parameters that are lists of names: joined by commas, or given once for each name, with `[]` or without.
_NAMES = ("include", "fields")
_FILTER = re.compile(r"([a-z_]+)(?:\[(gt|gte|lt|lte)\])?")
_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)

Value = str | int | bool | datetime | UUID


class Condition(NamedTuple):
    """One filter asked for: `name[operator]=value`."""

    name: str
    operator: str
    value: Value


class Page(NamedTuple):
    """Rows `(number - 1) * size` on, with a total: exact if `exact`, else exact up to a bound. `drf`: to be answered in
    the form of Django REST framework's pages."""

    number: int = 1
    size: int = DEFAULT_ROWS
    exact: bool = False
    drf: bool = False


class CursorPage(NamedTuple):
    """Rows after a position; `cursor` is empty for the first."""

    cursor: str = ""
    size: int = DEFAULT_ROWS


class Query(NamedTuple):
    """What is asked of a resource. Equal requests give equal queries, in whatever order they were written. `words` are
    what is searched for."""

    selection: Selection
    conditions: tuple[Condition, ...] = ()
    sort: str = ""
    page: Page | CursorPage = Page()
    words: str = ""

    def flag(self, name: str) -> bool | None:
        """The value of a Flag filter, or None where the request does not say."""
        return next((bool(c.value) for c in self.conditions if c.name == name), None)


def _joinable(arg: tuple[str, str]) -> tuple[str, str]:
    """`include[]=…`, as some clients write lists, is `include=…`."""
    name = arg[0].removesuffix("[]")
    return (name, arg[1]) if name in _NAMES else arg


def normal_text(text: str) -> str:
    """A query string with each list of names written once, joined by commas: `include=a&include=b`, too, and
    `include[]=a&include[]=b`, are `include=a,b`. Whatever else is in it stays as it was written."""
    if "[]" not in text and "%5b%5d" not in text.lower() and all(text.count(f"{name}=") < 2 for name in _NAMES):
        return text
    parts: dict[str, str] = {}
    for place, part in enumerate(text.split("&")):
        written, is_assigned, value = part.partition("=")
        name = unquote_plus(written).removesuffix("[]")
        if name not in _NAMES or not is_assigned:
            parts[f"{place} {part}"] = part
        elif name in parts:
            parts[name] += f",{value}"
        else:
            parts[name] = f"{name}={value}"
    return "&".join(parts.values())


def parse_query(resource: Resource, args: Iterable[tuple[str, str]], *, one: bool = False) -> Query:
    """Read the parameters of a list, or with `one` of a single row (only `fields` and `include`).

    Raises: InvalidParameter naming every parameter that is unknown, repeated or unreadable.
    """
    return _parse(resource, tuple(args), one)


@lru_cache(maxsize=1024)
def _parse(resource: Resource, args: tuple[tuple[str, str], ...], one: bool) -> Query:
    """Clients ask the same things over and over, and what a query says never changes."""
    faults: list[Fault] = []
    given: dict[str, str] = {}
    for name, value in map(_joinable, args):
        if name in given and name in _NAMES:
            value = f"{given[name]},{value}"  # noqa: PLW2901
        elif name in given:
            faults.append(Fault(code="repeated", detail="is given more than once", parameter=name))
        elif "\0" in value:
            faults.append(Fault(code="invalid", detail="holds a character that is not allowed", parameter=name))
        given[name] = value
    reader = _Reader(resource, given, faults)
    query = Query(reader.selection()) if one else reader.list_query()
    faults += [Fault(code="unknown", detail="is not a parameter of this resource", parameter=n) for n in reader.left]
    if faults:
        raise InvalidParameter.of_faults(faults)
    return query


class _Reader:
    """Takes parameters out of `left` and puts what is wrong with them into `faults`."""

    def __init__(self, resource: Resource, given: Mapping[str, str], faults: list[Fault]) -> None:
        self.resource, self.left, self.faults = resource, dict(given), faults

    def fault(self, parameter: str, detail: str, code: str = "invalid") -> None:
        self.faults.append(Fault(code=code, detail=detail, parameter=parameter))

    def list_query(self) -> Query:
        words = self.words()
        return Query(self.selection(), self.conditions(), self.sort(), self.page(), words)

    def words(self) -> str:
        """What is searched for, which also decides the order."""
        if self.resource.search is None or "q" not in self.left:
            return ""
        words = self.left.pop("q").strip()
        if not 1 <= len(words) <= MAX_WORDS:
            self.fault("q", f"is not 1 to {MAX_WORDS} characters of words to be found")
        if self.left.pop("sort", None) is not None:
            self.fault("sort", "cannot be used together with q", "conflict")
        return words

    def selection(self) -> Selection:
        selection, faults = select(self.resource, self.left.pop("include", None), self.left.pop("fields", None))
        self.faults += faults
        return selection

    def conditions(self) -> tuple[Condition, ...]:
        conditions = []
        matches = [(p, m) for p in self.left if (m := _FILTER.fullmatch(p)) and m[1] in self.resource.filters]
        for parameter, match in matches:
            name, operator, text = match[1], match[2] or "", self.left.pop(parameter)
            declared = self.resource.filters[name]
            if operator and not isinstance(declared, Range):
                self.fault(parameter, "can only be compared for equality", "unknown")
            elif isinstance(declared, Equal) and declared.choices and text not in declared.choices:
                self.fault(parameter, "is not one of " + ", ".join(declared.choices))
            elif (value := self._value(parameter, text, _type_of(self.resource, name))) is not None:
                conditions.append(Condition(name, operator, value))
        return tuple(sorted(conditions, key=lambda c: (c.name, c.operator)))

    def _value(self, parameter: str, text: str, kind: types.TypeEngine[Any]) -> Value | None:
        try:
            return read_value(text, kind)
        except ValueError as error:
            self.fault(parameter, str(error))
            return None

    def sort(self) -> str:
        sort = self.left.pop("sort", self.resource.default_sort)
        if sort.removeprefix("-") not in self.resource.sorts:
            self.fault("sort", "is not one of " + ", ".join(self.resource.sorts) + ", with or without a leading -")
        return sort

    def page(self) -> Page | CursorPage:
        by_cursor = [name for name in ("cursor", "limit") if name in self.left]
        by_number = [name for name in ("page", "per_page", "page_size", "total", "meta_style") if name in self.left]
        if by_cursor and by_number:
            for name in by_number:
                self.fault(name, f"cannot be used together with {by_cursor[0]}", "conflict")
        cursor = self.left.pop("cursor", "")
        if by_cursor:
            page: Page | CursorPage = CursorPage(cursor, self._number("limit", DEFAULT_ROWS, MAX_ROWS))
        exact = self.left.pop("total", None)
        if exact not in (None, "exact"):
            self.fault("total", "can only be `exact`")
        style = self.left.pop("meta_style", None)
        if style not in (None, "drf"):
            self.fault("meta_style", "can only be `drf`")
        if {"per_page", "page_size"} <= self.left.keys():
            self.fault("page_size", "is another name of per_page: give one of them", "conflict")
        number = self._number("page", 1, MAX_PAGE)
        sizes = [self._number(name, DEFAULT_ROWS, MAX_ROWS) for name in ("per_page", "page_size") if name in self.left]
        size = sizes[0] if sizes else DEFAULT_ROWS
        return page if by_cursor else Page(number, size, exact == "exact", style == "drf")

    def _number(self, parameter: str, default: int, largest: int) -> int:
        text = self.left.pop(parameter, None)
        if text is None:
            return default
        if not _INTEGER.fullmatch(text) or not 1 <= int(text) <= largest:
            self.fault(parameter, f"is not a whole number from 1 to {largest}")
            return default
        return int(text)


@lru_cache
def _type_of(resource: Resource, name: str) -> types.TypeEngine[Any]:
    """Of a filter's value. SQLAlchemy takes long to tell a column's type."""
    declared = resource.filters[name]
    return types.Boolean() if isinstance(declared, Flag) else declared.column.type


def read_value(text: str, kind: types.TypeEngine[Any]) -> Value:
    """A parameter's text as a value of a column's type. Raises: ValueError saying what it should have been."""
    match kind:
        case types.Uuid():
            if (value := parse_id(text)) is None:
                raise ValueError("is not a UUID")
            return value
        case types.DateTime():
            return parse_moment(text)
        case types.Boolean():
            if text not in ("true", "false"):
                raise ValueError("is not true or false")
            return text == "true"
        case types.Integer():
            if not _INTEGER.fullmatch(text):
                raise ValueError("is not a whole number")
            return int(text)
        case types.String():
            # A cast to a bounded type would cut the text instead.
            if kind.length and len(text) > kind.length:
                raise ValueError(f"is longer than {kind.length} characters")
            return text
    raise TypeError(f"no parameter can be of type {kind!r}")


def column_of(resource: Resource, name: str) -> Column:
    """The column that a filter compares."""
    declared = resource.filters[name]
    assert isinstance(declared, Equal | Range)
    return declared.column
