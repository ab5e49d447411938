"""Turning a table with rows into one that is partitioned by month, beside those who use it.

Nothing is copied. The table becomes the first partition of a new parent that takes its name, for which everybody waits
some milliseconds. What takes long comes before and after, beside the traffic: a check constraint says which ids the
table has, and is validated, so that it need not be read while others wait; foreign keys that lead here are made anew
without a look at the rows there are, and validated later.

Each step begins with what it finds, so whatever was broken off is finished by asking again; a check that was left is
removed by the housekeeping (upkeep.py).
"""

import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

import psycopg2

from dues.partitions import catalog
from dues.partitions.catalog import ForeignKey, Index
from dues.partitions.months import floor_id, label, month_of, next_month
from dues.partitions.tables import Partitioned
from dues.postgres import sqlstate_of
from dues.postgres.changing import Refused, Session

# Ids are made by machines whose clocks may be fast: the first bound is at least so far ahead.
_AHEAD = timedelta(days=7)
_CHECK_VIOLATION = "23514"


@dataclass
class Steps:
    """SQL in the order in which it runs: before and after each statement by itself, beside the traffic; in between one
    transaction for which everybody waits."""

    before: list[str] = field(default_factory=list)
    swap: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


def check_of(table: Partitioned) -> str:
    """The name of the constraint that says which ids a table has that is about to be turned."""
    return f"{table.name}_partition_bound"


def first_bound(now: datetime) -> datetime:
    """From which month on there are partitions of their own."""
    return next_month(month_of(now + _AHEAD))


def steps_for(session: Session, table: Partitioned, now: datetime) -> Steps:
    """What turns a table into a partitioned one. Raises: Refused."""
    _refuse_what_would_stay_behind(session, table)
    month = first_bound(now)
    part, bound = f"{table.name}_until_{label(month)}", floor_id(month)
    keys = [_Key(table, index) for index in catalog.indexes(session, table.name) if index.name != _new_key(table)]
    steps = Steps()
    if table.primary_key:
        steps.before += _prepare_primary_key(session, table)
    steps.before += [
        f"alter table {table.name} drop constraint if exists {check_of(table)}",
        f"alter table {table.name} add constraint {check_of(table)} check ({table.key} < '{bound}') not valid",
        f"alter table {table.name} validate constraint {check_of(table)}",
    ]
    referring = catalog.referring(session, table.name)
    steps.swap += [f"alter table {key.table} drop constraint {key.name}" for key in referring]
    steps.swap += _exchange(session, table, part, keys, bound)
    steps.swap += [f"alter table {key.table} add constraint {key.name} {_not_valid(key)}" for key in referring]
    steps.after += [_validation(key) for key in referring]
    steps.after.append(f"analyze {table.name}")
    return steps


def convert(session: Session, table: Partitioned, now: datetime) -> None:
    """Turn a table. Nothing has changed where it raises: Refused; psycopg2.Error."""
    steps = steps_for(session, table, now)
    for statement in steps.before:
        session.tell(statement)
        _prepare(session, table, statement)
    session.tell(f"{len(steps.swap)} statements in one transaction")
    session.together(steps.swap)
    for statement in steps.after:
        session.tell(statement)
        session.together([statement])


def finish(session: Session, table: Partitioned) -> None:
    """Validate what an attempt has left that was broken off after the table was turned."""
    for key in catalog.referring(session, table.name):
        if not key.is_validated:
            session.tell(_validation(key))
            session.together([_validation(key)])


def _prepare(session: Session, table: Partitioned, statement: str) -> None:
    try:
        if "concurrently" in statement:
            session.alone(statement)
        else:
            session.together([statement])
    except psycopg2.Error as error:
        if sqlstate_of(error) == _CHECK_VIOLATION:
            raise Refused(
                f"{table.name} has rows whose ids lie further ahead than a month, so they say nothing of the time:"
                f" look at select * from {table.name} order by {table.key} desc"
            ) from error
        raise


def forget_preparations(session: Session, name: str, table: Partitioned) -> None:
    """Remove from a table, or from its last partition, the check that is left of an attempt that was broken off: it
    would refuse rows one day."""
    values = {"name": name, "check": check_of(table)}
    if session.rows("select from pg_constraint where conrelid = to_regclass(%(name)s) and conname = %(check)s", values):
        session.together([f"alter table {name} drop constraint {check_of(table)}"])


def _refuse_what_would_stay_behind(session: Session, table: Partitioned) -> None:
    if session.is_spread():
        raise Refused("the database has the extension citus, which cannot distribute what is partitioned by month")
    if found := catalog.in_the_way(session, table.name):
        raise Refused(
            f"{', '.join(found)} would stay with a part of {table.name}: drop it first, and make it anew after"
        )
    for key in catalog.referring(session, table.name):
        if key.table_is_partitioned:
            raise Refused(
                f"{key.table} refers to {table.name} and is partitioned already: {table.name} must come first"
            )
    for name in catalog.not_validated(session, table.name):
        if name != check_of(table):
            raise Refused(f"alter table {table.name} validate constraint {name} comes first")
    owner, is_ours = catalog.owner(session, table.name)
    if not is_ours:
        raise Refused(f"{table.name} is {owner}'s, who would lose it to this role: connect as {owner}")


def _new_key(table: Partitioned) -> str:
    return f"{table.name}_partition_key"


def _prepare_primary_key(session: Session, table: Partitioned) -> list[str]:
    found = next((index for index in catalog.indexes(session, table.name) if index.name == _new_key(table)), None)
    if found and found.is_valid:
        return []
    columns = ", ".join(table.primary_key)
    make = f"create unique index concurrently {_new_key(table)} on {table.name}({columns})"
    return [f"drop index concurrently {_new_key(table)}", make] if found else [make]


class _Key:
    """An index of the table, and what becomes of it."""

    def __init__(self, table: Partitioned, index: Index) -> None:
        self.index = index
        self._table = table
        is_primary = (index.constraint_definition or "").startswith("PRIMARY KEY")
        self.is_replaced = bool(table.primary_key) and is_primary
        # PostgreSQL holds it in each partition, and not over all.
        self.is_local = index.is_unique and not is_primary and table.key not in index.columns

    def renamed(self, part: str, number: int) -> str:
        """So that the parent's may have the name."""
        return f"alter index {self.index.name} rename to {part}_{number}"

    def on_parent(self) -> str:
        name, parent = self.index.name, self._table.name
        if self.index.constraint:
            definition = self.index.constraint_definition
            if self.is_replaced:
                definition = f"primary key ({', '.join(self._table.primary_key)})"
            return f"alter table {parent} add constraint {name} {definition}"
        return re.sub(r" INDEX \S+ ON (ONLY )?\S+ ", f" INDEX {name} ON {parent} ", self.index.definition, count=1)


def _exchange(session: Session, table: Partitioned, part: str, keys: list[_Key], bound: UUID) -> list[str]:
    """The parent takes the table's name, and the table becomes its partition."""
    name = table.name
    triggers, foreign = catalog.triggers(session, name), catalog.foreign_keys(session, name)
    targets = sorted({key.target for key in foreign})
    # What may have to be waited for comes first: those that ask for the table wait from the second lock on.
    statements = [f"lock table {', '.join(targets)} in share row exclusive mode"] if targets else []
    statements.append(f"lock table {name} in access exclusive mode")
    statements += [f"drop trigger {trigger.name} on {name}" for trigger in triggers]
    statements.append(f"alter table {name} rename to {part}")
    statements += [key.renamed(part, number) for number, key in enumerate(keys, 1)]
    for number, key in enumerate(keys, 1):
        if key.is_replaced:
            statements += [
                f"alter table {part} drop constraint {part}_{number}",
                f"alter table {part} add constraint {part}_{number} primary key using index {_new_key(table)}",
            ]
    likeness = "including defaults including constraints including generated including storage"
    likeness += " including compression including comments"
    statements += [
        f"create table {name} (like {part} {likeness}) partition by range ({table.key})",
        f"alter table {name} drop constraint {check_of(table)}",
        *(key.on_parent() for key in keys if not key.is_local),
        *(f"alter table {name} add constraint {key.name} {key.definition}" for key in foreign),
        f"alter table {name} attach partition {part} for values from (minvalue) to ('{bound}')",
        f"alter table {part} drop constraint {check_of(table)}",
        f"create table {name}_later (like {part} including all)",
        f"alter table {name} attach partition {name}_later for values from ('{bound}') to (maxvalue)",
        *(trigger.definition for trigger in triggers),
        *(statement.format(part=part) for statement in table.guards),
        *catalog.grants(session, name),
    ]
    return statements


def _not_valid(key: ForeignKey) -> str:
    """So that the rows there are need not be looked at while everybody waits."""
    return f"{key.definition.removesuffix(' NOT VALID')} not valid"


def _validation(key: ForeignKey) -> str:
    return f"alter table {key.table} validate constraint {key.name}"
