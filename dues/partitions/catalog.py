"""What PostgreSQL knows of a table and its partitions."""

import re
from dataclasses import dataclass
from uuid import UUID

from dues.postgres.changing import Session

_IS_PARTITIONED = "select coalesce((select relkind = 'p' from pg_class where oid = to_regclass(%(table)s)), false)"
_PARTITIONS = """
    select c.relname::text, pg_get_expr(c.relpartbound, c.oid), pg_total_relation_size(c.oid), c.reltuples::bigint,
        array_to_string(c.reloptions, ', ')
    from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = %(table)s::regclass order by 1
"""
_SIZE = "select pg_total_relation_size(oid), reltuples::bigint from pg_class where oid = %(table)s::regclass"
_INDEXES = """
    select c.relname::text, pg_get_indexdef(i.indexrelid), i.indisunique, i.indisvalid,
        array(select a.attname::text from unnest(i.indkey::int[]) k join pg_attribute a
              on a.attrelid = i.indrelid and a.attnum = k),
        k.conname::text, pg_get_constraintdef(k.oid)
    from pg_index i join pg_class c on c.oid = i.indexrelid
    left join pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u')
    where i.indrelid = %(table)s::regclass order by 1
"""
_FOREIGN_KEYS = """
    select k.conname::text, k.conrelid::regclass::text, k.confrelid::regclass::text, pg_get_constraintdef(k.oid),
        k.convalidated, c.relkind = 'p'
    from pg_constraint k join pg_class c on c.oid = k.conrelid
    where k.contype = 'f' and k.conparentid = 0 and k.{side} = %(table)s::regclass order by 2, 1
"""
_TRIGGERS = """
    select tgname::text, pg_get_triggerdef(oid) from pg_trigger
    where tgrelid = %(table)s::regclass and not tgisinternal order by 1
"""
_GRANTS = """
    select format('grant %%s on %%s to %%s%%s', privilege_type, %(table)s,
        case grantee when 0 then 'public' else grantee::regrole::text end,
        case when is_grantable then ' with grant option' else '' end)
    from pg_class c, aclexplode(c.relacl) where c.oid = %(table)s::regclass and grantee <> c.relowner order by 1
"""
# What hangs on the table itself, and would stay with what becomes one of its partitions.
_IN_THE_WAY = """
    select 'the view ' || v.relname from pg_depend d join pg_rewrite r on r.oid = d.objid
        join pg_class v on v.oid = r.ev_class
        where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass
            and d.refobjid = %(table)s::regclass and v.oid <> d.refobjid
    union select 'the publication ' || p.pubname from pg_publication_rel r join pg_publication p on p.oid = r.prpubid
        where r.prrelid = %(table)s::regclass
    union select 'the statistics ' || stxname from pg_statistic_ext where stxrelid = %(table)s::regclass
    union select 'the policy ' || polname from pg_policy where polrelid = %(table)s::regclass
    union select 'the table ' || inhrelid::regclass from pg_inherits where inhparent = %(table)s::regclass
    union select 'the rights to the column ' || attname from pg_attribute
        where attrelid = %(table)s::regclass and attacl is not null
    order by 1
"""
_OWNER = """
    select relowner::regrole::text, relowner = current_user::regrole from pg_class
    where oid = %(table)s::regclass
"""
# Not those that PostgreSQL makes itself for each partition of a table that is referred to: until 17 it never validates
# these, though it has looked at all rows.
_NOT_VALIDATED = """
    select conname::text from pg_constraint
    where conrelid = %(table)s::regclass and conparentid = 0 and not convalidated order by 1
"""
_BOUNDS = re.compile(r"FOR VALUES FROM \((?:MINVALUE|'([0-9a-f-]+)')\) TO \((?:MAXVALUE|'([0-9a-f-]+)')\)")


@dataclass(frozen=True)
class Part:
    """A partition: of ids from `lower` on (None: from the first) and below `upper` (None: to the last).

    size: bytes, indexes included. rows: how many there were, about, when they were last counted; -1: never.
    """

    name: str
    lower: UUID | None
    upper: UUID | None
    size: int
    rows: int
    options: str


@dataclass(frozen=True)
class Index:
    """`constraint` and its definition, where it belongs to one."""

    name: str
    definition: str
    is_unique: bool
    is_valid: bool
    columns: list[str]
    constraint: str | None
    constraint_definition: str | None


@dataclass(frozen=True)
class ForeignKey:
    """Of `table`, which refers to `target`."""

    name: str
    table: str
    target: str
    definition: str
    is_validated: bool
    table_is_partitioned: bool


@dataclass(frozen=True)
class Trigger:
    name: str
    definition: str


def is_partitioned(session: Session, table: str) -> bool:
    return bool(session.value(_IS_PARTITIONED, {"table": table}))


def ids_of(bound: str) -> tuple[UUID | None, UUID | None]:
    """The ids that bound a partition, from the first on and below the second, as PostgreSQL writes them."""
    found = _BOUNDS.fullmatch(bound)
    assert found, f"not a range of ids: {bound}"
    lower, upper = (UUID(text) if text else None for text in found.groups())
    return lower, upper


def partitions(session: Session, table: str) -> list[Part]:
    """In the order of their ids."""
    found = [
        Part(name, *ids_of(bound), size, rows, options or "")
        for name, bound, size, rows, options in session.rows(_PARTITIONS, {"table": table})
    ]
    return sorted(found, key=lambda part: part.lower.int if part.lower else -1)


def has_rows(session: Session, part: str, condition: str = "true") -> bool:
    return bool(session.value(f"select exists (select from {part} where {condition})"))


def size_of(session: Session, table: str) -> tuple[int, int]:
    """Bytes, indexes included, and rows, about; -1 where they were never counted."""
    size, rows = session.rows(_SIZE, {"table": table})[0]
    return int(size), int(rows)


def indexes(session: Session, table: str) -> list[Index]:
    return [Index(*row) for row in session.rows(_INDEXES, {"table": table})]


def foreign_keys(session: Session, table: str) -> list[ForeignKey]:
    """Those that the table has."""
    return [ForeignKey(*row) for row in session.rows(_FOREIGN_KEYS.format(side="conrelid"), {"table": table})]


def referring(session: Session, table: str) -> list[ForeignKey]:
    """Those of other tables that lead here."""
    return [ForeignKey(*row) for row in session.rows(_FOREIGN_KEYS.format(side="confrelid"), {"table": table})]


def triggers(session: Session, table: str) -> list[Trigger]:
    return [Trigger(*row) for row in session.rows(_TRIGGERS, {"table": table})]


def grants(session: Session, table: str) -> list[str]:
    """The statements that give others their rights."""
    return [statement for (statement,) in session.rows(_GRANTS, {"table": table})]


def owner(session: Session, table: str) -> tuple[str, bool]:
    """Whose the table is, and whether the session is theirs."""
    name, is_ours = session.rows(_OWNER, {"table": table})[0]
    return name, is_ours


def not_validated(session: Session, table: str) -> list[str]:
    """The constraints that may not hold for rows of before they were made."""
    return [name for (name,) in session.rows(_NOT_VALIDATED, {"table": table})]


def in_the_way(session: Session, table: str) -> list[str]:
    """What would stay with a single partition, and so must go before the table is turned."""
    return [what for (what,) in session.rows(_IN_THE_WAY, {"table": table})]
