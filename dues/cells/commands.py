"""`flask cells`: the directory's cells and their keys."""

import click
import ujson

from dues.cells import places
from dues.cells.signatures import addresses, is_directory, key_for
from dues.postgres.command_line import Group

command = Group("cells", help="The cells of which this Dues is the directory.")


@command.command("key")
@click.argument("name")
def key_command(name: str) -> None:
    """What the cell NAME needs as its CELLS_KEY. It opens that cell: tell nobody else."""
    _require_directory()
    click.echo(key_for(name))


@command.command("list")
def list_command() -> None:
    """Each cell with its address, and how many stores it has."""
    _require_directory()
    stores = ujson.loads(places.counts())
    for name, address in addresses().items():
        click.echo(f"{name} {address} {stores.get(name, 0)}")


def _require_directory() -> None:
    if not is_directory():
        raise click.ClickException("this is no directory: CELLS is not set")
