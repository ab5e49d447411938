"""`flask partitions`: tables by month, where single ones have become too large."""

from collections.abc import Sequence
from datetime import datetime

import click

from dues.partitions import catalog
from dues.partitions.conversion import convert, finish, first_bound, forget_preparations, steps_for
from dues.partitions.months import label, months_from
from dues.partitions.tables import BY_NAME, TABLES, Partitioned
from dues.partitions.upkeep import MONTHS_AHEAD, expired, make_ahead, making, missing_months
from dues.postgres.changing import Refused, Session
from dues.postgres.command_line import Group, session_of_command
from dues.settings import settings

command = Group("partitions", help="Large tables by month.")
# Rows that should be none are counted up to here.
_COUNTED = 1000
_NAMES = click.Choice(list(BY_NAME))


@command.command("plan")
@click.argument("names", nargs=-1, type=_NAMES)
def plan(names: Sequence[str]) -> None:
    """What `apply` would do, and how large the tables are. Changes nothing."""
    with session_of_command() as session:
        for table in _chosen(names):
            size, rows = catalog.size_of(session, table.name)
            if catalog.is_partitioned(session, table.name):
                _show_partitions(session, table)
                continue
            click.echo(f"{table.name}: one table, {_size(size)}, {_rows(rows)}")
            try:
                _show_steps(session, table)
            except Refused as refused:
                click.echo(f"  cannot be partitioned: {refused}")


@command.command("apply")
@click.argument("names", nargs=-1, type=_NAMES, required=True)
def apply(names: Sequence[str]) -> None:
    """Partition the tables that are named, beside those who use them. What was broken off is finished."""
    with session_of_command() as session:
        for table in _chosen(names):
            if catalog.is_partitioned(session, table.name):
                click.echo(f"{table.name} is partitioned")
                finish(session, table)
            else:
                _turn(session, table)
            make_ahead(session, table, _now(session))


def _turn(session: Session, table: Partitioned) -> None:
    click.echo(f"{table.name}:")
    try:
        convert(session, table, _now(session))
    except BaseException:
        if not catalog.is_partitioned(session, table.name):
            forget_preparations(session, table.name, table)
            click.echo(f"{table.name} is as it was", err=True)
        raise


def _chosen(names: Sequence[str]) -> list[Partitioned]:
    return [table for table in TABLES if not names or table.name in names]


def _show_steps(session: Session, table: Partitioned) -> None:
    now = _now(session)
    steps = steps_for(session, table, now)
    click.echo("  -- each by itself, beside the traffic; no lock is waited for longer than two seconds at a time")
    _show(steps.before)
    click.echo("  -- in one transaction, for which everybody waits")
    _show(["begin", *steps.swap, "commit"])
    click.echo("  -- each by itself")
    _show(steps.after)
    for month in months_from(now, MONTHS_AHEAD):
        if month >= first_bound(now):
            click.echo("  -- in one transaction")
            _show(making(table, month))


def _show(statements: Sequence[str]) -> None:
    for statement in statements:
        click.echo(f"  {statement};")


def _show_partitions(session: Session, table: Partitioned) -> None:
    parts, now = catalog.partitions(session, table.name), _now(session)
    click.echo(f"{table.name}: by month, {len(parts)} partitions, {_size(sum(part.size for part in parts))}")
    for part in parts:
        click.echo(f"  {part.name:<40} {_size(part.size):>10}  {_rows(part.rows)}")
    for month in missing_months(session, table, now):
        click.echo(f"  {table.name}_{label(month)} is missing: the housekeeping makes it")
    for part in expired(session, table, settings(), now):
        if catalog.has_rows(session, part.name):
            click.echo(f"  {part.name} is older than is kept: the housekeeping empties it once nothing in it is in use")
    count = session.value(f"select count(*) from (select from {parts[-1].name} limit {_COUNTED}) found")
    if count:
        click.echo(f"  {count}{'' if count < _COUNTED else ' or more'} rows are later than all months")


def _now(session: Session) -> datetime:
    now: datetime = session.value("select clock_timestamp()")
    return now


def _size(size: int) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 10_000:
            return f"{size:,} {unit}"
        size //= 1024
    return f"{size:,} TB"


def _rows(rows: int) -> str:
    return "never counted" if rows < 0 else f"about {rows:,} rows"
