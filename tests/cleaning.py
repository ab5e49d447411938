"""How the database of the tests is emptied between two of them: by `tests.clean()`, a function in it."""

from graphlib import TopologicalSorter
from typing import Any

# How an administrator calls the function: where all rows go, no trigger need fire and no key be checked. It is so for
# the whole connection, since PostgreSQL forgets all plans of a session that changes it; and to turn triggers off table
# by table would change the tables, so that each session has to plan its statements on them anew.
AS_ADMINISTRATOR = {"user": "postgres", "options": "-c session_replication_role=replica"}

_SMALL_TABLE = 512 * 1024
# Tables some of whose rows a trigger keeps from being deleted or truncated: bits of `tgtype`.
_GUARDED = """
    select distinct tgrelid::regclass::text as name from pg_trigger
    where not tgisinternal and tgtype & 2 = 2 and tgtype & (8 | 32) <> 0
"""
# Where triggers note what is changed or deleted in other tables.
_NOTES = "public.sync_changes"
# Empties all tables, and has the cache as after the migrations, whatever a test did to Redis. PostgreSQL keeps a
# function's plans, so it takes less time than the statements by themselves. Deleting a few rows takes a tenth of the
# time of TRUNCATE, which makes new files for all tables and indexes; but tables keep the room of deleted rows, so those
# that are large are made anew, and all are if `anew`. Then it is forgotten, too, what a test had PostgreSQL gather of
# their rows (ANALYZE).
_CLEAN = """
    create schema tests;
    create function tests.clean(anew bool) returns void language plpgsql as $$
    declare
        is_large bool = anew or (select max(pg_relation_size(name::regclass)) from unnest({tables}) name) > {small};
        is_guarded bool = current_setting('session_replication_role') <> 'replica' and (is_large or {rows_are_guarded});
    begin
        if is_guarded then {disable} end if;
        if is_large then truncate {all_tables}; else {delete} end if;
        if is_guarded then {enable} end if;
        if anew and (select rolsuper from pg_roles where rolname = current_user) then
            delete from pg_statistic where starelid = any (select name::regclass from unnest({tables}) name);
        end if;
        update cache_switch set "on" = true, settled = false, generation = generation + 1 where not "on";
    end $$
"""
_TABLES = """
    select format('%I.%I', schemaname, tablename) as name from pg_tables
    where schemaname not in ('pg_catalog', 'information_schema')
"""
_REFERENCES = """
    select format('%I.%I', n.nspname, r.relname) as name, format('%I.%I', m.nspname, t.relname) as target
    from pg_constraint c
    join pg_class r on r.oid = c.conrelid join pg_namespace n on n.oid = r.relnamespace
    join pg_class t on t.oid = c.confrelid join pg_namespace m on m.oid = t.relnamespace
    where c.contype = 'f' and c.conrelid <> c.confrelid
"""


def make_cleaning(cursor: Any) -> None:
    """Make the function, in a database that is as the migrations left it. `cursor` gives rows by name."""
    cursor.execute(_cleaning(_empty_tables(cursor), _guarded_tables(cursor)))


def _cleaning(tables: list[str], guarded: list[str]) -> str:
    """The statement that makes the function which empties `tables`. Unless an administrator calls it, the triggers of
    those that are `guarded` are turned off meanwhile, which costs more than all the rest, and so only where there are
    rows in one."""
    return _CLEAN.format(
        tables=f"array{tables}",
        small=_SMALL_TABLE,
        rows_are_guarded=" or ".join(f"exists (select from {name})" for name in guarded) or "false",
        disable="".join(f"alter table {name} disable trigger user; " for name in guarded),
        all_tables=", ".join(tables),
        delete="".join(f"delete from {name}; " for name in tables),
        enable="".join(f"alter table {name} enable trigger user; " for name in guarded),
    )


def _guarded_tables(cursor: Any) -> list[str]:
    """The tables some of whose rows a trigger keeps from being changed or deleted."""
    cursor.execute(_GUARDED)
    return sorted(row["name"] for row in cursor.fetchall())


def _empty_tables(cursor: Any) -> list[str]:
    """Every table that migrations leave empty, those that refer to others before them; what migrations put in the rest
    stays."""
    cursor.execute(_TABLES)
    names = [row["name"] for row in cursor.fetchall()]
    referring: dict[str, set[str]] = {}
    for name in names:
        # Each by itself: Citus does not take them together.
        cursor.execute(f"select from {name} limit 1")
        if cursor.fetchone() is None:
            referring[name] = set()
    cursor.execute(_REFERENCES)
    for row in cursor.fetchall():
        if row["target"] in referring:
            referring[row["target"]].add(row["name"])
    # What is noted of the others is deleted last.
    return sorted(TopologicalSorter(referring).static_order(), key=_NOTES.__eq__)
