"""Mails to addresses that nobody has shown to be theirs: one may be a stranger's, who must not be flooded."""

from dues.accounts.attempts import Quota, count
from dues.accounts.models import mailbox_of
from dues.errors import TooManyRequests
from dues.jobs import PermanentFailure
from dues.mail.ledger import is_written_down

# Of all kinds together.
_MAILS = Quota("mails-to-unverified", 20, 86_400, "mails to an e-mail that is not verified")


def count_mail(dedupe_key: str, email: str) -> None:
    """A mail is about to be written down; one that is already does not count again.

    Raises: PermanentFailure where the address has had its most mails today.
    """
    if is_written_down(dedupe_key):
        return
    try:
        count(_MAILS, mailbox_of(email))
    except TooManyRequests as refused:
        raise PermanentFailure(refused) from refused
