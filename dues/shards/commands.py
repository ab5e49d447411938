"""`flask shards`: tables of stores on several servers, by Citus."""

import click

from dues.postgres.changing import Refused, Session
from dues.postgres.command_line import Group, session_of_command
from dues.shards import catalog
from dues.shards.distribution import Plan, distribute, plan_for, refuse_unless_ready

command = Group("shards", help="Tables of stores on several servers, by Citus.")


@command.command("plan")
def plan() -> None:
    """Where each table belongs and why, and what `distribute` would do. Changes nothing."""
    with session_of_command() as session:
        found = plan_for(session)
        _show_places(found)
        if not found.steps:
            _show_spread(session, found)
            return
        try:
            refuse_unless_ready(session)
        except Refused as refused:
            click.echo(f"-- cannot be distributed yet: {refused}")
        click.echo("-- in one transaction")
        for statement in ["begin", *found.steps, "commit"]:
            click.echo(f"{statement};")


@command.command("distribute")
def distribute_() -> None:
    """Distribute the tables of stores over the workers that Citus knows. Once that is done, it changes nothing."""
    with session_of_command() as session:
        found = plan_for(session)
        if found.steps:
            refuse_unless_ready(session)
            distribute(session, found)
        _show_spread(session, found)


def _show_places(found: Plan) -> None:
    for name, placed in found.placed.items():
        click.echo(f"{name:<28} {placed.place:<12} {placed.reason}")


def _show_spread(session: Session, found: Plan) -> None:
    of_stores = [name for name, placed in found.placed.items() if placed.place == "distributed"]
    click.echo(f"{len(of_stores)} tables are distributed by store, over {', '.join(catalog.workers(session))}")
