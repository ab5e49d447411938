"""`flask stores`: moving stores to another Dues."""

import os
import sys
from functools import partial
from uuid import UUID

import click
import psycopg2

from dues.moves.arrival import receive
from dues.moves.departure import InDoubt, move
from dues.moves.gateways import GATEWAYS, Gateway, gateway_map
from dues.moves.states import Overtaken, stores_that_left
from dues.moves.wire import Command, Lost, Refused, Wire
from dues.moves.within import is_within
from dues.postgres import told
from dues.postgres.changing import Busy
from dues.postgres.command_line import Group

command = Group("stores", help="Moving stores to another Dues.")


@command.command("move")
@click.argument("store_id", type=click.UUID)
@click.option("--to", "receiver", required=True, help="A command that runs `flask stores receive` at the other Dues.")
@click.option(
    "--wait",
    "longest_wait_s",
    default=300,
    type=click.IntRange(0, 86_400),
    show_default=True,
    help="Seconds that its running jobs may take.",
)
def move_command(store_id: UUID, receiver: str, longest_wait_s: int) -> None:
    """Move a store with all that it has. Where it fails the store stays here; run again, it goes on."""
    try:
        address = move(
            store_id, partial(Command, receiver), lambda line: click.echo(line, err=True), longest_wait_s=longest_wait_s
        )
    except (Refused, Busy) as refused:
        raise click.ClickException(f"the store is not moved: {refused}") from refused
    except (InDoubt, Overtaken) as doubt:
        raise click.ClickException(str(doubt)) from doubt
    except psycopg2.Error as error:
        raise click.ClickException(told(error)) from error
    click.echo(f"moved to {address}")


@command.command("receive")
def receive_command() -> None:
    """Take in a store: run by `flask stores move` of the other Dues, which talks to it over its standard streams."""
    # Whatever else is said in this process must not get in between.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as sink:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        try:
            receive(Wire(sys.stdin.buffer, sink))
        except Refused:
            # The other end says why.
            sys.exit(1)
        except Lost as lost:
            raise click.ClickException(f"nothing was taken in, unless the other end was told so: {lost}") from lost


@command.command("moved")
@click.option("--for", "gateway", type=click.Choice(GATEWAYS), help="As lines for the configuration of this gateway.")
def moved_command(gateway: Gateway | None) -> None:
    """The stores that have left, and where they are now."""
    moved = [(store_id, address) for store_id, address in stores_that_left() if not is_within(address)]
    if gateway:
        click.echo(gateway_map(gateway, moved), nl=False)
        return
    for store_id, address in moved:
        click.echo(f"{store_id} {address}")
