"""What an operator does about mails that are held, because nobody knows whether they were accepted: `flask mail`."""

from uuid import UUID

import click

from dues.jobs import enqueue, kinds
from dues.jobs.stats import notice
from dues.mail import ledger
from dues.postgres import transaction
from dues.postgres.command_line import Group

command = Group("mail", help="Mails that are held: nobody knows whether they were accepted.")


@notice
def mails_held() -> str:
    count = ledger.count_unknown()
    return f"mails held, because nobody knows whether they were accepted: {count} (flask mail held)" if count else ""


@command.command("held")
def list_held() -> None:
    """List them: id, since when the mail server may have accepted it, recipient."""
    for found in ledger.held():
        click.echo(f"{found['id']}  {found['dot_at']}  {found['recipient']}")


@command.command("sent")
@click.argument("email_id", type=click.UUID)
def say_sent(email_id: UUID) -> None:
    """Say that a held mail was sent, as the mail server's log shows."""
    _decide(email_id, "sent")


@command.command("resend")
@click.argument("email_id", type=click.UUID)
def resend(email_id: UUID) -> None:
    """Have a held mail sent by a worker: the mail server's log does not show it, or better twice than not at all."""
    _decide(email_id, "pending")


def _decide(email_id: UUID, decision: ledger.Decision) -> None:
    with transaction():
        ledger.decide(email_id, decision)
        if decision == "pending":
            enqueue(kinds.MAILING_SEND, {"email_id": str(email_id)}, dedupe_key=str(email_id))
