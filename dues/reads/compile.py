"""A resource and the shape of a query become one SQL statement, whose answer is JSON that PostgreSQL wrote.

    with page as (the rows of the page and one more, by index, with only the columns that are needed)
    select the page's rows as JSON text (includes as sub-selects of each shown row),
           the rows fetched, the snapshot, the total or the sort keys at both ends

Text that a client sent is never part of a statement: names are looked up in the resource, values are bound.
A shape is compiled once and kept.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from sqlalchemy import Dialect, types
from sqlalchemy.dialects import postgresql

from dues.clock import sql_rfc3339
from dues.reads.query import OPERATORS, Condition, Page, Query, column_of
from dues.reads.resource import INCLUDED_ROWS, Column, Computed, Flag, Many, One, Resource
from dues.reads.selection import Selection

# A page's total is counted up to here; beyond, the planner's estimate stands in.
COUNTED_ROWS = 10_000

_OPPOSITE = {"desc": "asc", "asc": "desc"}

_DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Shape:
    """All of a query but its values: whatever has the same shape has the same statement.

    `scope` names the columns that must equal a value of the scope. `page` is None for a single row, else "page" or
    "page exact" by number; by cursor "first" and "last", or "next" and "prev" of the row that it stands at. `size` is
    part of the shape, so that the planner knows how few rows are wanted; `deep` says that rows are skipped before them.
    """

    resource: Resource
    scope: tuple[str, ...]
    selection: Selection
    conditions: tuple[tuple[str, str, bool | None], ...]
    sort: str
    page: str | None = None
    size: int = 1
    deep: bool = False


def shape_of(resource: Resource, scope: Mapping[str, object], query: Query, page: str | None) -> Shape:
    conditions = tuple(_condition_shape(resource, condition) for condition in query.conditions)
    deep = isinstance(query.page, Page) and query.page.number > 1
    return Shape(resource, tuple(sorted(scope)), query.selection, conditions, query.sort, page, query.page.size, deep)


def _condition_shape(resource: Resource, condition: Condition) -> tuple[str, str, bool | None]:
    flag = isinstance(resource.filters[condition.name], Flag)
    return condition.name, condition.operator, bool(condition.value) if flag else None


@lru_cache(maxsize=2048)
def compile_one(shape: Shape) -> str:
    """Columns of the answer: the row as JSON text, its version, the snapshot, for how many seconds it holds."""
    resource = shape.resource
    version = "t.version" if "version" in resource.table.c else "null"
    return (
        f"select {_item(resource, shape.selection, 't')}::text, {version}, pg_current_snapshot()::text,"
        f" {_life(resource)} from {resource.table.name} t where {_where(shape)} limit 1"
    )


@lru_cache(maxsize=2048)
def compile_list(shape: Shape) -> tuple[str, str]:
    """The statement, and the query whose rows the planner estimates (bound as `estimated`) when a total is large.

    Columns of the answer: the rows as a JSON array's text, how many rows were fetched (one more than shown when
    more follow), the snapshot, for how many seconds it holds, whether the resource's `within` holds, and then by page
    the total (below zero: an estimate), by cursor the sort keys of the first and last row shown as JSON text, and
    whether there are rows on the other side of the cursor.
    """
    assert shape.page
    resource, by_number = shape.resource, shape.page.startswith("page")
    keys = _sort_keys(shape)
    shown = "desc" if shape.sort.startswith("-") else "asc"
    # Going back, the rows just before the cursor are the first in the opposite order.
    walked = _OPPOSITE[shown] if shape.page in ("prev", "last") else shown
    where = _where(shape)
    source = f"{resource.table.name} t where {where}"
    if shape.page in ("next", "prev"):
        source += f" and {_beyond(keys, '<' if walked == 'desc' else '>')}"
    named = [f"t.{name}" for name in sorted(_columns(resource, shape.selection))]
    columns = ", ".join(named + [f"{key.sql} as key{i}" for i, key in enumerate(keys)])
    order = ", ".join(f"{key.sql} {walked}" for key in keys)
    page_order = ", ".join(f"t.key{i} {walked}" for i in range(len(keys)))
    limit = f"limit {shape.size + 1}" + (" offset %(offset)s" if shape.deep else "")
    item_keys = ", ".join(f"t.key{i}" for i in range(len(keys)))
    item_order = ", ".join(f"x.key{i} {shown}" for i in range(len(keys)))
    counted = f"select 1 from {resource.table.name} t where {where}"
    tail = _total(counted, order, shape) if by_number else _ends(shape, keys, shown, walked)
    statement = (
        f"with page as (select {columns} from {source} order by {order} {limit}),"
        f" shown as (select * from page t order by {page_order} limit {shape.size})"
        f" select (select '[' || coalesce(string_agg(x.item::text, ',' order by {item_order}), '') || ']' from"
        f" (select {_item(resource, shape.selection, 't')} as item, {item_keys} from shown t) x),"
        f" (select count(*) from page), pg_current_snapshot()::text, {_life(resource)},"
        f" {resource.within or 'true'}, {tail}"
    )
    return statement, counted


def _life(resource: Resource) -> str:
    return f"extract(epoch from {resource.until} - now())::float8" if resource.until else "null::float8"


def _total(counted: str, order: str, shape: Shape) -> str:
    """The total; below zero, the planner's estimate of it.

    What is counted has an order, so that the planner takes the page's own index: where a store has much of the table
    it would else read the table itself, through a ring of buffers that keeps none of it.
    """
    if shape.page == "page exact":
        return f"(select count(*) from ({counted}) c)"
    # On a last page that holds rows the total follows from its number, so nothing is counted.
    return (
        f"case when (select count(*) from page) between 1 and {shape.size}"
        f" then (select count(*) from page){' + %(offset)s' if shape.deep else ''}"
        f" else (select case when count(*) > {COUNTED_ROWS}"
        f" then -greatest(dues_estimated_rows(%(estimated)s), {COUNTED_ROWS + 1}) else count(*) end"
        f" from ({counted} order by {order} limit {COUNTED_ROWS + 1}) c) end"
    )


def _ends(shape: Shape, keys: "list[_Key]", shown: str, walked: str) -> str:
    row = ", ".join(f"t.key{i}" for i in range(len(keys)))
    first, last = (
        f"(select json_build_array({row})::text from shown t order by "
        + ", ".join(f"t.key{i} {direction}" for i in range(len(keys)))
        + " limit 1)"
        for direction in (shown, _OPPOSITE[shown])
    )
    if shape.page not in ("next", "prev"):
        return f"{first}, {last}, false"
    # Looked for from the cursor on, since the row that it stands at is mostly still there.
    order = ", ".join(f"{key.sql} {_OPPOSITE[walked]}" for key in keys)
    behind = f"{_where(shape)} and {_beyond(keys, '>=' if walked == 'desc' else '<=')}"
    table = shape.resource.table.name
    return f"{first}, {last}, exists (select from (select from {table} t where {behind} order by {order} limit 1) b)"


@dataclass(frozen=True)
class _Key:
    """A sort key, as an expression on `t` that an index has, and the type that a value of it is cast to."""

    sql: str
    type: str


def _sort_keys(shape: Shape) -> list[_Key]:
    resource = shape.resource
    names = dict.fromkeys((resource.sorts[shape.sort.removeprefix("-")].name, resource.key))
    return [_Key(_comparable(resource, name), _type(resource, name)) for name in names]


def _comparable(resource: Resource, column: str) -> str:
    """A column as what it is sorted by. Times that are null come before all others: a walk compares rows, and null is
    neither more nor less than anything."""
    if resource.table.c[column].nullable and any(sort.name == column for sort in resource.sorts.values()):
        return f"coalesce(t.{column}, '-infinity')"
    return f"t.{column}"


def _beyond(keys: list[_Key], operator: str) -> str:
    """Which rows are on one side of the row that a cursor stands at."""
    row = ", ".join(key.sql for key in keys)
    values = ", ".join(f"%(after{i})s::{key.type}" for i, key in enumerate(keys))
    return f"({row}) {operator} ({values})"


def _where(shape: Shape) -> str:
    resource = shape.resource
    terms = [f"t.{name} = %({name})s" for name in shape.scope if name in resource.table.c]
    given = {name for name, _, _ in shape.conditions}
    for i, (name, operator, flag) in enumerate(shape.conditions):
        declared = resource.filters[name]
        if isinstance(declared, Flag):
            terms.append(_flag(declared, bool(flag)))
        else:
            column = column_of(resource, name)
            compared = _comparable(resource, column.name)
            terms.append(f"{compared} {OPERATORS[operator]} %(filter{i})s::{_type(resource, column.name)}")
            if compared != f"t.{column.name}" and operator in ("lt", "lte"):
                terms.append(f"t.{column.name} is not null")
    if shape.page is not None:
        for name, declared in resource.filters.items():
            if isinstance(declared, Flag) and declared.default is not None and name not in given:
                terms.append(_flag(declared, declared.default))
    if resource.where:
        terms.append(Computed(resource.where, {}).render("t"))
    if resource.within and shape.page is None:
        terms.append(resource.within)
    return " and ".join(terms) or "true"


def _flag(flag: Flag, value: bool) -> str:
    return Computed(flag.when_true if value else flag.when_false, {}).render("t")


def _type(resource: Resource, column: str) -> str:
    return resource.table.c[column].type.compile(_DIALECT)


def _columns(resource: Resource, selection: Selection) -> set[str]:
    """The columns of the resource's own table that a selection needs."""
    needed: set[str] = set()
    for name in selection.fields:
        declared = resource.fields[name]
        needed |= declared.columns() if isinstance(declared, Computed) else {declared.name}
    for name, _ in selection.includes:
        needed |= {mine.name for mine in resource.includes[name].on.values()}
    return needed


def _item(resource: Resource, selection: Selection, alias: str) -> str:
    """One row as JSON: its fields, then its includes, each a sub-select on the row's own columns."""
    parts = [f'{_field(resource.fields[name], alias)} as "{name}"' for name in selection.fields]
    for name, below in selection.includes:
        include = resource.includes[name]
        inner = f"{alias}_{name}"
        join = _join(include, alias, inner)
        item, table = _item(include.resource, below, inner), include.resource.table.name
        if isinstance(include, Many):
            sort = include.resource.default_sort
            direction = "desc" if sort.startswith("-") else "asc"
            keys = (include.resource.sorts[sort.removeprefix("-")].name, include.resource.key)
            order = ", ".join(f"{inner}.{key} {direction}" for key in keys)
            columns = _columns(include.resource, below) | set(keys)
            newest = (
                f"select {', '.join(f'{inner}.{column}' for column in sorted(columns))} from {table} {inner}"
                f" where {join} order by {order} limit {INCLUDED_ROWS}"
            )
            sub = f"select coalesce(json_agg({item} order by {order}), '[]') from ({newest}) {inner}"
        else:
            sub = f"select {item} from {table} {inner} where {join}"
        parts.append(f'({sub}) as "{name}"')
    return f"(select row_to_json(d) from (select {', '.join(parts)}) d)"


def _join(include: One | Many, alias: str, inner: str) -> str:
    """Which rows of the included table belong to a row of this one."""
    terms = [f"{inner}.{theirs.name} = {alias}.{mine.name}" for theirs, mine in include.on.items()]
    conditions = (include.resource.where, include.where if isinstance(include, Many) else "")
    return " and ".join(terms + [Computed(text, {}).render(inner) for text in conditions if text])


def _field(declared: Column | Computed, alias: str) -> str:
    if isinstance(declared, Computed):
        return declared.render(alias)
    column = f"{alias}.{declared.name}"
    return sql_rfc3339(column) if isinstance(declared.type, types.DateTime) else column


def bind(query: Query, scope: Mapping[str, UUID | str | bool | None], resource: Resource) -> dict[str, object]:
    """The values of a query's statement, but for those of its page."""
    # A UUID as text spares psycopg2's adapter, which costs more than the rest of the binding.
    values: dict[str, object] = {n: str(v) if isinstance(v, UUID) else v for n, v in scope.items()}
    for i, condition in enumerate(query.conditions):
        if not isinstance(resource.filters[condition.name], Flag):
            values[f"filter{i}"] = condition.value
    return values
