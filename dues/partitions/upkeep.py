"""What partitioned tables need as time goes by: partitions for the months ahead, and nothing left of those long past.

The partitions of a table have every id between them. The first begins with the lowest, and the last, `…_later`, has
all from the months on that are made ahead; so no write ever fails for want of a partition, though a machine's clock is
wrong or the housekeeping was down. The last is mostly empty: a month is cut from it by giving it a later beginning.

An expired month is truncated, for which only those wait who would read it. Empty months at the beginning are then made
one.
"""

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg2

from config import Settings
from dues.partitions import catalog
from dues.partitions.catalog import Part
from dues.partitions.conversion import check_of, finish, first_bound, forget_preparations
from dues.partitions.months import NO_ID_BELOW, floor_id, label, moment_of, months_from, next_month
from dues.partitions.tables import TABLES, Partitioned
from dues.postgres import sqlstate_of
from dues.postgres.changing import Session

# The present month and the next two.
MONTHS_AHEAD = 3
_CHECK_VIOLATION, _FOREIGN_KEY_VIOLATION = "23514", "23503"

_IS_MOVING = "select exists (select from store_moves where state not in ('gone', 'here'))"

log = logging.getLogger(__name__)


def keep_partitions(session: Session, config: Settings) -> int:
    """Make and empty what is due of all tables that are partitioned. Returns: how many partitions were emptied.
    Raises: psycopg2.Error."""
    now, emptied = session.value("select clock_timestamp()"), 0
    for table in TABLES:
        if catalog.is_partitioned(session, table.name):
            finish(session, table)
            make_ahead(session, table, now)
            emptied += empty_old(session, table, config, now)
        else:
            forget_preparations(session, table.name, table)
    return emptied


def make_ahead(session: Session, table: Partitioned, now: datetime) -> None:
    """Make the partitions of the present month and of those that follow, as far as they are missing."""
    made = False
    forget_preparations(session, catalog.partitions(session, table.name)[-1].name, table)
    while months := missing_months(session, table, now):
        last = catalog.partitions(session, table.name)[-1]
        try:
            if not _make(session, table, last, months[0], now):
                break
        except psycopg2.Error as error:
            if sqlstate_of(error) not in (_CHECK_VIOLATION, _FOREIGN_KEY_VIOLATION):
                raise
            log.warning("%s keeps its rows, and no months are cut from it: %s", last.name, str(error).strip())
            break
        made = True
    if made:
        # Autovacuum never looks at the parent, whose statistics are those of all partitions.
        session.together([f"analyze {table.name}"])


def missing_months(session: Session, table: Partitioned, now: datetime) -> list[datetime]:
    """Those that are to be cut from the last partition, the first of them first."""
    begins = catalog.partitions(session, table.name)[-1].lower
    assert begins
    ends = list(months_from(now, MONTHS_AHEAD + 1))[-1]
    months = (ends.year - moment_of(begins).year) * 12 + ends.month - moment_of(begins).month
    return list(months_from(moment_of(begins), max(0, months)))


def making(table: Partitioned, month: datetime, options: str = "") -> list[str]:
    """The statements that cut a month from the last partition, which has no rows of it."""
    later, part = f"{table.name}_later", f"{table.name}_{label(month)}"
    lower, upper = floor_id(month), floor_id(next_month(month))
    settings = [f"alter table {part} set ({options})"] if options else []
    return [
        # Foreign keys that lead here look for rows of the partition: few, by an index.
        "set local enable_seqscan = off",
        f"alter table {table.name} detach partition {later}",
        f"create table {part} (like {later} including all)",
        *settings,
        f"alter table {table.name} attach partition {part} for values from ('{lower}') to ('{upper}')",
        f"alter table {table.name} attach partition {later} for values from ('{upper}') to (maxvalue)",
    ]


def _make(session: Session, table: Partitioned, last: Part, month: datetime, now: datetime) -> bool:
    """Make the partition of a month. Returns: whether there is one now, or one with it in it."""
    if catalog.has_rows(session, last.name, f"{table.key} < '{floor_id(next_month(month))}'"):
        return _close(session, table, last, first_bound(now))
    session.together(making(table, month, last.options))
    session.tell(f"made {table.name}_{label(month)}")
    return True


def _close(session: Session, table: Partitioned, last: Part, ends: datetime) -> bool:
    """The last partition has rows of months that should have had theirs: it becomes a partition itself, until `ends`.
    Returns: whether it did."""
    assert last.lower
    if floor_id(ends) <= last.lower:
        log.warning("%s has rows from the future, and is left as it is until then", last.name)
        return False
    part, upper, check = f"{table.name}_{label(moment_of(last.lower))}", floor_id(ends), check_of(table)
    add = f"alter table {last.name} add constraint {check} check ({table.key} < '{upper}') not valid"
    try:
        session.together([add])
        session.together([f"alter table {last.name} validate constraint {check}"])
        session.together(
            [
                f"alter table {table.name} detach partition {last.name}",
                f"alter table {last.name} rename to {part}",
                f"alter table {table.name} attach partition {part} for values from ('{last.lower}') to ('{upper}')",
                f"alter table {part} drop constraint {check}",
                f"create table {last.name} (like {part} including all)",
                f"alter table {table.name} attach partition {last.name} for values from ('{upper}') to (maxvalue)",
            ]
        )
    except psycopg2.Error:
        forget_preparations(session, last.name, table)
        raise
    session.tell(f"made {part}")
    return True


def expired(session: Session, table: Partitioned, config: Settings, now: datetime) -> list[Part]:
    """The partitions all of whose ids are older than is kept."""
    if table.kept_days is None:
        return []
    since = floor_id(_since(table, config, now))
    return [part for part in catalog.partitions(session, table.name) if part.upper and part.upper <= since]


def empty_old(session: Session, table: Partitioned, config: Settings, now: datetime) -> int:
    """Empty the partitions all of whose rows are older than is kept. Returns: how many. None, while a store's move to
    another Dues is under way or broken off: a month goes with the rows of all stores, and no trigger refuses that."""
    if session.value(_IS_MOVING):
        return 0
    parts, emptied, left = expired(session, table, config, now), 0, []
    for part in parts:
        if catalog.has_rows(session, part.name):
            emptied += _empty(session, table, part, _since(table, config, now))
    for part in parts:
        if catalog.has_rows(session, part.name):
            break
        left.append(part)
    if len(left) > 1:
        _make_one(session, table, left)
    return emptied


def _since(table: Partitioned, config: Settings, now: datetime) -> datetime:
    assert table.kept_days
    return now - timedelta(days=table.kept_days(config))


def _empty(session: Session, table: Partitioned, part: Part, since: datetime) -> bool:
    values: dict[str, Any] = {"since": since, "lower": str(part.lower or NO_ID_BELOW), "upper": str(part.upper)}
    in_use, younger = (session.text(sql.format(part=part.name), values) for sql in (table.in_use, table.younger))
    if session.value(f"select {in_use} or {younger}"):
        return False
    # Asked once more while nobody writes there: an operator may just have had an old job begin anew. By an index, since
    # whoever writes to the table waits meanwhile.
    session.together(
        [
            "set local enable_seqscan = off",
            f"lock table {part.name} in share row exclusive mode",
            f"do $$ begin if not ({in_use}) then truncate {part.name}; end if; end $$",
        ]
    )
    if catalog.has_rows(session, part.name):
        return False
    session.tell(f"emptied {part.name}")
    return True


def _make_one(session: Session, table: Partitioned, parts: Sequence[Part]) -> None:
    """Of empty partitions at the beginning, one; unless there is a row by now."""
    names, upper = ", ".join(part.name for part in parts), parts[-1].upper
    assert upper
    whole = f"{table.name}_until_{label(moment_of(upper))}"
    found = " or ".join(f"exists (select from {part.name})" for part in parts)
    session.together(
        [
            f"lock table {names} in share row exclusive mode",
            f"do $$ begin if not ({found}) then"
            f" drop table {names};"
            f" create table {whole} (like {table.name}_later including all);"
            f" alter table {table.name} attach partition {whole} for values from (minvalue) to ('{upper}');"
            " end if; end $$",
        ]
    )
