"""`flask gateways`: the keys that encrypt the secrets of stores' gateways."""

import click

from dues.payments.accounts import rotate_secrets
from dues.postgres.command_line import Group
from dues.vault import new_key

command = Group("gateways", help="Stores' own payment gateways.")


@command.command("new-key")
def _new_key() -> None:
    """Print a new key for SECRETS_KEYS."""
    click.echo(new_key())


@command.command("rotate")
def _rotate() -> None:
    """Encrypt all secrets with the first of SECRETS_KEYS; the other keys are not needed afterwards."""
    done, moving, unreadable = rotate_secrets()
    click.echo(f"{done} accounts were encrypted anew")
    for store_id in unreadable:
        click.echo(
            f"store {store_id}: none of SECRETS_KEYS decrypts its secrets: its owner has to enter them again", err=True
        )
    if moving:
        click.echo(
            f"{moving} accounts are of stores that are being moved: they still need the keys they have. Run this again"
            " after the move",
            err=True,
        )
    if unreadable or moving:
        raise click.ClickException(f"{len(unreadable) + moving} accounts are as they were")
