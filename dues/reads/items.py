"""A selection as SQL: each row of a list, or the single row, as a JSON object that PostgreSQL writes."""

from collections.abc import Iterable, Mapping

from sqlalchemy import types

from dues.clock import sql_rfc3339
from dues.reads.resource import INCLUDED_ROWS, NOTHING_KNOWN, Column, Computed, Known, Many, One, Resource
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


def item_of(
    resource: Resource,
    selection: Selection,
    alias: str,
    known: Known = NOTHING_KNOWN,
    found: Mapping[str, str] = NOTHING_KNOWN,
    *,
    is_spread: bool = False,
) -> str:
    """One row as JSON: its fields, then its includes, each a sub-select on the row's own columns, or on what is `known`
    of them; or what was `found` before. `is_spread`: the rows are of many servers."""
    parts = {name: _field(resource.fields[name], alias, known) for name in selection.fields}
    for name, below in selection.includes:
        include = resource.includes[name]
        parts[name] = found.get(name) or _included(
            include, below, (alias, f"{alias}_{name}"), known, is_spread=is_spread
        )
    if is_spread:
        # Nor with a row that is of no table.
        listed = ", ".join(f"'{name}', {sql}" for name, sql in parts.items())
        return f"json_build_object({listed})"
    listed = ", ".join(f'{sql} as "{name}"' for name, sql in parts.items())
    return f"(select row_to_json(d) from (select {listed}) d)"


def found_here(resource: Resource, selection: Selection, alias: str, known: Known) -> dict[str, str]:
    """The includes of a row that are on the same server as itself."""
    return {
        name: _included(include, below, (alias, f"{alias}_{name}"), known)
        for name, below in selection.includes
        if not (isinstance(include := resource.includes[name], One) and include.is_elsewhere)
    }


def _included(
    include: One | Many, below: Selection, aliases: tuple[str, str], known: Known, *, is_spread: bool = False
) -> str:
    """What an include shows; `aliases` are of the row that includes it, and of its own."""
    alias, inner = aliases
    item = item_of(include.resource, below, inner, _known_of(include, known), is_spread=is_spread)
    join = _join(include, alias, inner, known)
    if isinstance(include, One):
        return f"(select {item} from {include.resource.table.name} {inner} where {join})"
    # Written where the rows are found: Citus joins rows of a table with others, but not those of a sub-select.
    newest = _newest(include, [*_keys_of(include, inner), f"{item} as item"], inner, join)
    return f"(select coalesce(json_agg({inner}.item order by {_order(include, inner)}), '[]') from ({newest}) {inner})"


def words_of(resource: Resource, selection: Selection, alias: str) -> str:
    """What a row shows, as the journal names it: words of eight bytes, packed."""
    parts = [_word(resource, name, alias) for name in resource.words]
    for name, below in selection.includes:
        include, inner = resource.includes[name], f"{alias}_{name}"
        shown, join = words_of(include.resource, below, inner), _join(include, alias, inner, NOTHING_KNOWN)
        if isinstance(include, Many):
            columns = columns_of(include.resource, below) | {*include.resource.words, *_keys(include)}
            newest = _newest(include, [f"{inner}.{column}" for column in sorted(columns)], inner, join)
            rows = f"({newest}) {inner}"
        else:
            rows = f"{include.resource.table.name} {inner} where {join}"
        if shown != _NO_WORDS:
            parts.append(f"coalesce((select string_agg({shown}, {_NO_WORDS}) from {rows}), {_NO_WORDS})")
    return " || ".join(parts) or _NO_WORDS


_NO_WORDS = "''::bytea"


def _word(resource: Resource, column: str, alias: str) -> str:
    word = f"substr(uuid_send({alias}.{column}), 9)"
    return f"coalesce({word}, {_NO_WORDS})" if resource.table.c[column].nullable else word


def _newest(include: Many, listed: Iterable[str], inner: str, join: str) -> str:
    """The rows of a to-many include that are shown, with what is `listed`."""
    table, order = include.resource.table.name, _order(include, inner)
    return f"select {', '.join(listed)} from {table} {inner} where {join} order by {order} limit {INCLUDED_ROWS}"


def _keys(include: Many) -> list[str]:
    sort = include.resource.default_sort.removeprefix("-")
    return list(dict.fromkeys((include.resource.sorts[sort].name, include.resource.key)))


def _keys_of(include: Many, inner: str) -> list[str]:
    return [f"{inner}.{key}" for key in _keys(include)]


def _order(include: Many, inner: str) -> str:
    direction = "desc" if include.resource.default_sort.startswith("-") else "asc"
    return ", ".join(f"{key} {direction}" for key in _keys_of(include, inner))


def _known_of(include: One | Many, known: Known) -> Known:
    """What is known of the rows of an include: the columns that they are joined by, as far as this row's are."""
    return {theirs.name: known[mine.name] for theirs, mine in include.on.items() if mine.name in known}


def _join(include: One | Many, alias: str, inner: str, known: Known) -> str:
    """Which rows of the included table belong to a row of this one."""
    terms = [
        f"{inner}.{theirs.name} = {known.get(mine.name, f'{alias}.{mine.name}')}" for theirs, mine in include.on.items()
    ]
    conditions = (include.resource.where, include.where if isinstance(include, Many) else "")
    known_below = _known_of(include, known)
    return " and ".join(terms + [Computed(text, {}).render(inner, known_below) for text in conditions if text])


def _field(declared: Column | Computed, alias: str, known: Known) -> str:
    if isinstance(declared, Computed):
        return declared.render(alias, known)
    column = f"{alias}.{declared.name}"
    return sql_rfc3339(column) if isinstance(declared.type, types.DateTime) else column
