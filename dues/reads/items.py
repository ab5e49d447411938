"""A selection as SQL: each row of a list, or the single row, as a JSON object that PostgreSQL writes."""

from sqlalchemy import types

from dues.clock import sql_rfc3339
from dues.reads.resource import INCLUDED_ROWS, STORE, Column, Computed, Many, One, Resource
from dues.reads.selection import Selection


def columns_of(resource: Resource, selection: Selection) -> set[str]:
    """The columns of the resource's own table that a selection needs."""
    needed: set[str] = set()
    for name in selection.fields:
        declared = resource.fields[name]
        needed |= declared.columns() if isinstance(declared, Computed) else {declared.name}
    for name, _ in selection.includes:
        needed |= {mine.name for mine in resource.includes[name].on.values()}
    return needed


def item_of(resource: Resource, selection: Selection, alias: str, *, of_store: bool = False) -> str:
    """One row as JSON: its fields, then its includes, each a sub-select on the row's own columns. `of_store`: the row
    is one of the scope's store, so what is joined by the store is, too."""
    parts = [f'{_field(resource.fields[name], alias, of_store)} as "{name}"' for name in selection.fields]
    for name, below in selection.includes:
        include = resource.includes[name]
        inner = f"{alias}_{name}"
        join = _join(include, alias, inner, of_store)
        item = item_of(include.resource, below, inner, of_store=of_store and _store_of(include) is not None)
        table = include.resource.table.name
        if isinstance(include, Many):
            order = _order(include, inner)
            newest = _newest(include, below, alias, inner, of_store)
            sub = f"select coalesce(json_agg({item} order by {order}), '[]') from ({newest}) {inner}"
        else:
            sub = f"select {item} from {table} {inner} where {join}"
        parts.append(f'({sub}) as "{name}"')
    return f"(select row_to_json(d) from (select {', '.join(parts)}) d)"


def words_of(resource: Resource, selection: Selection, alias: str) -> str:
    """What a row shows, as the journal names it: words of eight bytes, packed."""
    parts = [_word(resource, name, alias) for name in resource.words]
    for name, below in selection.includes:
        include, inner = resource.includes[name], f"{alias}_{name}"
        shown = words_of(include.resource, below, inner)
        if isinstance(include, Many):
            rows = f"({_newest(include, below, alias, inner)}) {inner}"
        else:
            rows = f"{include.resource.table.name} {inner} where {_join(include, alias, inner)}"
        if shown != _NO_WORDS:
            parts.append(f"coalesce((select string_agg({shown}, {_NO_WORDS}) from {rows}), {_NO_WORDS})")
    return " || ".join(parts) or _NO_WORDS


_NO_WORDS = "''::bytea"


def _word(resource: Resource, column: str, alias: str) -> str:
    word = f"substr(uuid_send({alias}.{column}), 9)"
    return f"coalesce({word}, {_NO_WORDS})" if resource.table.c[column].nullable else word


def _newest(include: Many, below: Selection, alias: str, inner: str, of_store: bool = False) -> str:
    """The rows of a to-many include that are shown, with the columns that are needed."""
    columns = columns_of(include.resource, below) | {*include.resource.words, *_keys(include)}
    listed, table = ", ".join(f"{inner}.{column}" for column in sorted(columns)), include.resource.table.name
    return (
        f"select {listed} from {table} {inner}"
        f" where {_join(include, alias, inner, of_store)} order by {_order(include, inner)} limit {INCLUDED_ROWS}"
    )


def _keys(include: Many) -> list[str]:
    sort = include.resource.default_sort.removeprefix("-")
    return list(dict.fromkeys((include.resource.sorts[sort].name, include.resource.key)))


def _order(include: Many, inner: str) -> str:
    direction = "desc" if include.resource.default_sort.startswith("-") else "asc"
    return ", ".join(f"{inner}.{key} {direction}" for key in _keys(include))


def _store_of(include: One | Many) -> Column | None:
    """The column by which rows of one store are joined with rows of the same."""
    return next((theirs for theirs, mine in include.on.items() if theirs.name == mine.name == "store_id"), None)


def _join(include: One | Many, alias: str, inner: str, of_store: bool = False) -> str:
    """Which rows of the included table belong to a row of this one."""
    store = _store_of(include) if of_store else None
    terms = [
        f"{inner}.{theirs.name} = {STORE if theirs is store else f'{alias}.{mine.name}'}"
        for theirs, mine in include.on.items()
    ]
    conditions = (include.resource.where, include.where if isinstance(include, Many) else "")
    rendered = [Computed(text, {}).render(inner, of_store=store is not None) for text in conditions if text]
    return " and ".join(terms + rendered)


def _field(declared: Column | Computed, alias: str, of_store: bool) -> str:
    if isinstance(declared, Computed):
        return declared.render(alias, of_store=of_store)
    column = f"{alias}.{declared.name}"
    return sql_rfc3339(column) if isinstance(declared.type, types.DateTime) else column
