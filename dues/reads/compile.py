"""A resource and the shape of a query become one SQL statement, whose answer is JSON that PostgreSQL wrote.

    with page as (the rows of the page and one more, by index, with only the columns that are needed)
    select the page's rows as JSON text (includes as sub-selects of each shown row),
           the rows fetched, the snapshot, the total or the sort keys at both ends

Text that a client sent is never part of a statement: names are looked up in the resource, values are bound.
A shape is compiled once and kept.
"""

from functools import lru_cache

from dues.reads.items import columns_of, found_here, item_of, words_of
from dues.reads.resource import Resource
from dues.reads.shape import Shape
from dues.reads.walk import ListWalk, type_of, where

# A page's total is counted up to here; beyond, the planner's estimate stands in.
COUNTED_ROWS = 10_000


@lru_cache(maxsize=2048)
def compile_one(shape: Shape) -> str:
    """Columns of the answer: the row as JSON text, its version, the snapshot, for how many seconds it holds, and the
    words of what it shows, where the resource has any."""
    resource = shape.resource
    version = "t.version" if "version" in resource.table.c else "null"
    words = f", {words_of(resource, shape.selection, 't')}" if resource.words else ""
    given, rows = "", f"{resource.table.name} t where {where(shape)} limit 1"
    if shape.is_split:
        given, rows = f"with one as (select {', '.join(['t.*', *_found_here(shape)])} from {rows}) ", "one t"
    return (
        f"{given}select {_item(shape)}::text, {version}, pg_current_snapshot()::text,"
        f" {_life(resource)}{words} from {rows}"
    )


@lru_cache(maxsize=2048)
def compile_list(shape: Shape) -> tuple[str, str]:
    """The statement, and the query whose rows the planner estimates (bound as `estimated`) when a total is large and no
    estimate is `known`; none where it is not asked.

    Columns of the answer: the rows as a JSON array's text, how many rows were fetched (one more than shown when
    more follow), the snapshot, for how many seconds it holds, whether the resource's `within` holds, and then by page
    the total (below zero: an estimate), by cursor the sort keys of the first and last row shown as JSON text, and
    whether there are rows on the other side of the cursor. Where the resource has words, those of what is shown come
    last, and those of the viewer's audience.
    """
    assert shape.page
    resource, walk = shape.resource, ListWalk(shape)
    counted, estimated = _counted(walk)
    by_number = shape.page.startswith("page")
    tail = _total(counted, walk, is_estimated=bool(estimated)) if by_number else _ends(walk)
    item_keys = ", ".join(f"t.key{i}" for i in range(len(walk.keys)))
    item = "t.item" if shape.is_spread else _item(shape)
    statement = (
        f"with {walk.source.given if walk.source else ''}page as ({_page(walk)}),"
        f" shown as (select * from page t order by {walk.key_order('t')} limit {shape.size})"
        f" select (select '[' || coalesce(string_agg(x.item::text, ',' order by {walk.key_order('x', walk.shown)}), '')"
        f" || ']' from (select {item} as item, {item_keys} from shown t) x),"
        f" (select count(*) from page), pg_current_snapshot()::text, {_life(resource)},"
        f" {resource.within or 'true'}, {tail}{_words(shape)}"
    )
    return statement, estimated


def _item(shape: Shape) -> str:
    found = {name: f"t.found_{name}" for name in _includes_here(shape)} if shape.is_split else {}
    return item_of(shape.resource, shape.selection, "t", _known(shape), found, is_spread=shape.is_spread)


def _found_here(shape: Shape) -> list[str]:
    """The includes that are on the server of the rows, as columns of these: Citus takes them with what is on another
    server where they are found before."""
    return [f"{sql} as found_{name}" for name, sql in _includes_here(shape).items()]


def _includes_here(shape: Shape) -> dict[str, str]:
    return found_here(shape.resource, shape.selection, "t", _known(shape))


def _known(shape: Shape) -> dict[str, str]:
    table = shape.resource.table
    return {name: f"%({name})s::{type_of(shape.resource, name)}" for name in shape.scope if name in table.c}


def _words(shape: Shape) -> str:
    resource = shape.resource
    if not resource.words:
        return ""
    shown = f"(select string_agg({words_of(resource, shape.selection, 't')}, ''::bytea) from shown t)"
    audience = f"(select string_agg(substr(uuid_send(a.id), 9), ''::bytea) from ({resource.audience}) a)"
    return f", {shown}, {audience if resource.audience else 'null::bytea'}"


def _page(walk: ListWalk) -> str:
    """The rows of the page and one more, with the columns that are needed."""
    shape, table, most = walk.shape, walk.resource.table.name, walk.shape.size + 1
    needed = columns_of(walk.resource, shape.selection) | set(walk.resource.words)
    columns = [f"t.{name}" for name in sorted(needed)]
    columns += [f"{key.of('i' if key.is_computed else 't')} as key{i}" for i, key in enumerate(walk.keys)]
    if shape.is_spread:
        # Here, where they are rows of tables: Citus joins no others with what is on other servers.
        columns.append(f"{_item(shape)} as item")
    if shape.is_split:
        columns += _found_here(shape)
    listed, limit = ", ".join(columns), f"limit {most}" + (" offset %(offset)s" if shape.deep else "")
    if walk.source is None:
        rows = f"{table} t where {walk.where('t')}{walk.after('t')}"
        return f"select {listed} from {rows} order by {walk.order('t')} {limit}"
    rows = walk.source.rows(walk, f"(%(offset)s::bigint + {most})" if shape.deep else str(most))
    key, order = walk.resource.key, ", ".join(f"key{i} {walk.direction}" for i in range(len(walk.keys)))
    joined = f"({rows}) i join {table} t on t.{key} = i.{key}"
    return f"select {listed} from {joined} where {walk.where('t')} order by {order} {limit}"


def _counted(walk: ListWalk) -> tuple[str, str]:
    """A query of all rows that a total counts, and the one whose rows the planner estimates.

    What is counted has an order, so that the planner takes the page's own index: where a store has much of the table
    it would else read the table itself, through a ring of buffers that keeps none of it.
    """
    exact = walk.shape.page == "page exact"
    if walk.source:
        return walk.source.counted(walk, "all" if exact else str(COUNTED_ROWS + 1)), walk.source.estimated
    counted = f"select 1 from {walk.resource.table.name} t where {walk.where('t')}"
    limit = "" if exact else f" order by {walk.order('t')} limit {COUNTED_ROWS + 1}"
    return counted + limit, counted


def _life(resource: Resource) -> str:
    return f"extract(epoch from {resource.until} - now())::float8" if resource.until else "null::float8"


def _total(counted: str, walk: ListWalk, *, is_estimated: bool) -> str:
    """The total; below zero, the planner's estimate of it, or where it is not asked just more than is counted."""
    shape = walk.shape
    if shape.page == "page exact":
        return f"(select count(*) from ({counted}) c)"
    least = COUNTED_ROWS + 1
    rows = "coalesce(%(known)s::bigint, dues_estimated_rows(%(estimated)s))"
    estimate = f"-greatest({rows}, {least})" if is_estimated else f"-{least}"
    # On a last page that holds rows the total follows from its number, so nothing is counted.
    return (
        f"case when (select count(*) from page) between 1 and {shape.size}"
        f" then (select count(*) from page){' + %(offset)s' if shape.deep else ''}"
        f" else (select case when count(*) > {COUNTED_ROWS} then {estimate} else count(*) end from ({counted}) c) end"
    )


def _ends(walk: ListWalk) -> str:
    row = ", ".join(f"t.key{i}" for i in range(len(walk.keys)))
    opposite = "asc" if walk.shown == "desc" else "desc"
    first, last = (
        f"(select json_build_array({row})::text from shown t order by {walk.key_order('t', direction)} limit 1)"
        for direction in (walk.shown, opposite)
    )
    if walk.shape.page not in ("next", "prev"):
        return f"{first}, {last}, false"
    # Looked for from the cursor on, since the row that it stands at is mostly still there.
    behind = walk.behind
    if walk.source:
        rows = walk.source.rows(behind, "1")
    else:
        rows = f"{walk.resource.table.name} t where {behind.where('t')}{behind.after('t')}"
        rows = f"select 1 from {rows} order by {behind.order('t')} limit 1"
    return f"{first}, {last}, exists (select 1 from ({rows}) b)"
