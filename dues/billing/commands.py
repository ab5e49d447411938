"""`flask audit`: check that the books are consistent."""

import sys

import click
from flask.cli import with_appcontext

from dues.billing.audit import audit
from dues.postgres.command_line import Command


@click.command("audit", cls=Command)
@with_appcontext
def command() -> None:
    """Compare the books with everything they derive from, and print every difference. The exit status is 1 if there is
    any."""
    differences = audit()
    for difference in differences:
        click.echo(difference)
    click.echo(f"{len(differences)} differences" if differences else "the books are clean")
    sys.exit(1 if differences else 0)
