"""Rows on their way: copied out of one snapshot and in, and counted at both ends with a digest of all they hold."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dues.moves.tables import LEFT, MOVED, TABLES, Table
from dues.moves.wire import Incoming, Wire

# What PostgreSQL makes by itself (generated columns) arrives by itself.
_COLUMNS = """
    select coalesce(array_agg(quote_ident(attname) order by attname), '{}') from pg_attribute
    where attrelid = %(table)s::regclass and attnum > 0 and not attisdropped and attgenerated = ''
"""
# Of each row the first 120 bits of SHA-256, as two numbers; sums do not depend on the order of rows.
_DIGEST = """
    select count(*), coalesce(sum(('x' || substr(digest, 1, 15))::bit(60)::bigint), 0)::text,
        coalesce(sum(('x' || substr(digest, 16, 15))::bit(60)::bigint), 0)::text
    from (select encode(sha256(convert_to(row({values})::text, 'UTF8')), 'hex') as digest
          from {table} where {rows}) digests
"""
# Which tables may have a store's rows that this release knows nothing of.
_UNKNOWN = """
    select coalesce(array_agg(distinct c.relname::text), '{}') from pg_attribute a
    join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
    where a.attname = 'store_id' and not a.attisdropped and c.relkind in ('r', 'p') and not c.relispartition
        and n.nspname in ('public', 'sandbox_gateway') and not n.nspname || '.' || c.relname = any(%(known)s)
"""
UNBOUNDED = """
    select set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true),
        set_config('enable_seqscan', 'on', true), set_config('work_mem', '64MB', true),
        set_config('client_connection_check_interval', '5s', true)
"""
Digests = Mapping[str, tuple[int, str, str]]


def unknown_tables(cursor: Any) -> list[str]:
    """Tables that hold a `store_id` and are not among those of tables.py."""
    names = (*(table.name for table in TABLES), *LEFT)
    cursor.execute(_UNKNOWN, {"known": [name if "." in name else f"public.{name}" for name in names]})
    found: list[str] = cursor.fetchone()[0]
    return found


def all_columns(cursor: Any) -> dict[str, list[str]]:
    """By table, what is copied."""
    return {table.name: _columns(cursor, table) for table in TABLES}


def send_rows(cursor: Any, table: Table, store_id: UUID, wire: Wire) -> None:
    """In the snapshot that the cursor is in."""
    columns = _columns(cursor, table)
    values = ", ".join(f"{table.computed.get(column, column)} as {column}" for column in columns)
    select = cursor.mogrify(f"select {values} from {table.name} where {table.rows}", _named(store_id)).decode()
    cursor.copy_expert(f"copy ({select}) to stdout", wire)
    wire.end_stream()


def receive_rows(cursor: Any, table: Table, wire: Wire, into: str = "") -> list[str]:
    """`into`: a table of the same columns, in its place. Returns: the columns."""
    columns = _columns(cursor, table)
    cursor.copy_expert(f"copy {into or table.name} ({', '.join(columns)}) from stdin", Incoming(wire))
    return columns


def digests(cursor: Any, store_id: UUID, *, leaves: bool) -> Digests:
    """By table, the number of rows and a digest of them: as they leave, or as they have arrived."""
    found = {}
    for table in MOVED:
        columns = _columns(cursor, table)
        values = ", ".join(table.computed.get(column, column) if leaves else column for column in columns)
        cursor.execute(_DIGEST.format(values=values, table=table.name, rows=table.rows), _named(store_id))
        found[table.name] = cursor.fetchone()
    return found


def ids_of(cursor: Any, table: Table, store_id: UUID) -> list[UUID]:
    cursor.execute(f"select id from {table.name} where {table.rows}", _named(store_id))
    return [row[0] for row in cursor.fetchall()]


def _columns(cursor: Any, table: Table) -> list[str]:
    cursor.execute(_COLUMNS, {"table": table.name})
    found: list[str] = cursor.fetchone()[0]
    return found


def _named(store_id: UUID) -> dict[str, object]:
    return {"store_id": store_id}
