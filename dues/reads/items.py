"""A selection as SQL: each row of a list, or the single row, as a JSON object that PostgreSQL writes."""

from sqlalchemy import types

from dues.clock import sql_rfc3339
from dues.reads.resource import INCLUDED_ROWS, Column, Computed, Many, One, Resource
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


def item_of(resource: Resource, selection: Selection, alias: str) -> str:
    """One row as JSON: its fields, then its includes, each a sub-select on the row's own columns."""
    parts = [f'{_field(resource.fields[name], alias)} as "{name}"' for name in selection.fields]
    for name, below in selection.includes:
        include = resource.includes[name]
        inner = f"{alias}_{name}"
        join = _join(include, alias, inner)
        item, table = item_of(include.resource, below, inner), include.resource.table.name
        if isinstance(include, Many):
            sort = include.resource.default_sort
            direction = "desc" if sort.startswith("-") else "asc"
            keys = dict.fromkeys((include.resource.sorts[sort.removeprefix("-")].name, include.resource.key))
            order = ", ".join(f"{inner}.{key} {direction}" for key in keys)
            columns = columns_of(include.resource, below) | keys.keys()
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
