"""What PostgreSQL and Citus know of tables, keys, triggers and servers."""

from dataclasses import dataclass

from dues.postgres.changing import Session
from dues.shards.placement import Table

_TABLES = """
    select c.relname::text,
        array(select a.attname::text from pg_index i join pg_attribute a on a.attnum = any(i.indkey)
            where i.indrelid = c.oid and a.attrelid = c.oid and i.indisprimary),
        array(select (select string_agg(a.attname, ' ') from pg_attribute a
                where a.attrelid = c.oid and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1]))
            from pg_index i where i.indrelid = c.oid and i.indisunique),
        array(select distinct t.relname::text from pg_constraint k join pg_class t on t.oid = k.confrelid
            where k.conrelid = c.oid and k.contype = 'f' and k.confrelid <> c.oid)
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and not c.relispartition
        and c.relname <> 'alembic_version'
    order by 1
"""
_PARTITIONED = """
    select relname::text from pg_class where relkind = 'p' and relnamespace = 'public'::regnamespace order by 1
"""
_FOREIGN_KEYS = """
    select k.conname::text, k.conrelid::regclass::text, k.confrelid::regclass::text, pg_get_constraintdef(k.oid)
    from pg_constraint k where k.contype = 'f' and k.connamespace = 'public'::regnamespace order by 2, 1
"""
_TRIGGERS = """
    select tgname::text, tgrelid::regclass::text, tgfoid::regproc::text, pg_get_triggerdef(oid) from pg_trigger
    where not tgisinternal order by 2, 1
"""
_PLACED = """
    select c.relname::text, case p.partmethod when 'h' then 'distributed' else
        case p.repmodel when 't' then 'reference' else 'local' end end
    from pg_dist_partition p join pg_class c on c.oid = p.logicalrelid order by 1
"""
_WORKERS = """
    select nodename || ':' || nodeport from pg_dist_node where isactive and noderole = 'primary' and groupid <> 0
    order by 1
"""
_COORDINATOR = "select exists (select from pg_dist_node where groupid = 0)"
_SPREAD = """
    select nodename || ':' || nodeport, count(*), pg_size_pretty(sum(shard_size)) from citus_shards
    where table_name = %(table)s::regclass group by 1 order by 1
"""


@dataclass(frozen=True)
class ForeignKey:
    """Of `table`, which refers to `target`."""

    name: str
    table: str
    target: str
    definition: str


@dataclass(frozen=True)
class Trigger:
    name: str
    table: str
    function: str
    definition: str


def tables(session: Session) -> list[Table]:
    """All tables of Dues."""
    return [
        Table(name, frozenset(primary), tuple(frozenset(key.split()) for key in keys), frozenset(targets))
        for name, primary, keys, targets in session.rows(_TABLES)
    ]


def partitioned(session: Session) -> list[str]:
    """The tables that are partitioned by month."""
    return [name for (name,) in session.rows(_PARTITIONED)]


def foreign_keys(session: Session) -> list[ForeignKey]:
    return [ForeignKey(*row) for row in session.rows(_FOREIGN_KEYS)]


def triggers(session: Session) -> list[Trigger]:
    return [Trigger(*row) for row in session.rows(_TRIGGERS)]


def placed(session: Session) -> dict[str, str]:
    """Where Citus has the tables that it knows of."""
    return dict(session.rows(_PLACED)) if session.is_spread() else {}


def workers(session: Session) -> list[str]:
    """Host and port of each server that holds rows of stores; the coordinator is none of them."""
    return [name for (name,) in session.rows(_WORKERS)]


def knows_coordinator(session: Session) -> bool:
    """Whether the coordinator itself has copies of reference tables."""
    return bool(session.value(_COORDINATOR))


def spread(session: Session, table: str) -> list[tuple[str, int, str]]:
    """On how many shards of each server a distributed table lies, and how large they are."""
    return [(node, int(count), size) for node, count, size in session.rows(_SPREAD, {"table": table})]


def has_rows(session: Session, name: str) -> bool:
    return bool(session.value(f"select exists (select from {name})"))
