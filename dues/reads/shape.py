"""The shape of a query: all of it but its values, which is what a statement is compiled for."""

from collections.abc import Mapping
from typing import NamedTuple
from uuid import UUID

from dues.postgres import is_spread
from dues.reads.query import Condition, Page, Query
from dues.reads.resource import Flag, One, Resource
from dues.reads.selection import Selection


class Shape(NamedTuple):
    """All of a query but its values: whatever has the same shape has the same statement.

    `scope` names the columns that must equal a value of the scope. `page` is None for a single row, else "page" or
    "page exact" by number; by cursor "first" and "last", or "next" and "prev" of the row that it stands at. `size` is
    part of the shape, so that the planner knows how few rows are wanted; `deep` says that rows are skipped before them,
    and `searched` that words are to be found in them. `is_spread`: its rows are of many servers. `is_split`: some of
    what it includes is on another server than they are.
    """

    resource: Resource
    scope: tuple[str, ...]
    selection: Selection
    conditions: tuple[tuple[str, str, bool | None], ...]
    sort: str
    page: str | None = None
    size: int = 1
    deep: bool = False
    searched: bool = False
    is_spread: bool = False
    is_split: bool = False


def shape_of(resource: Resource, scope: Mapping[str, object], query: Query, page: str | None) -> Shape:
    conditions = tuple(_condition_shape(resource, condition) for condition in query.conditions)
    deep = isinstance(query.page, Page) and query.page.number > 1
    return Shape(
        resource,
        tuple(sorted(scope)),
        query.selection,
        conditions,
        query.sort,
        page,
        query.page.size,
        deep,
        bool(query.words),
        "store_id" not in scope and _is_of_stores(resource, query.selection) and is_spread(),
        _is_split(resource, query.selection) and is_spread(),
    )


def _is_of_stores(resource: Resource, selection: Selection) -> bool:
    """Whether rows of stores are asked for, by themselves or as included ones."""
    if "store_id" in resource.table.primary_key:
        return True
    return any(_is_of_stores(resource.includes[name].resource, below) for name, below in selection.includes)


def _is_split(resource: Resource, selection: Selection) -> bool:
    includes = (resource.includes[name] for name, _ in selection.includes)
    return any(isinstance(include, One) and include.is_elsewhere for include in includes)


def _condition_shape(resource: Resource, condition: Condition) -> tuple[str, str, bool | None]:
    flag = isinstance(resource.filters[condition.name], Flag)
    return condition.name, condition.operator, bool(condition.value) if flag else None


def bind(query: Query, scope: Mapping[str, UUID | str | bool | None], resource: Resource) -> dict[str, object]:
    """The values of a query's statement, but for those of its page."""
    # A UUID as text spares psycopg2's adapter, which costs more than the rest of the binding.
    values: dict[str, object] = {n: str(v) if isinstance(v, UUID) else v for n, v in scope.items()}
    for i, condition in enumerate(query.conditions):
        if not isinstance(resource.filters[condition.name], Flag):
            values[f"filter{i}"] = condition.value
    if query.words:
        values["words"] = query.words
    return values
