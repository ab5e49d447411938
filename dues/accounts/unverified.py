"""Mails to addresses that nobody has shown to be theirs: one may be a stranger's, who must not be flooded."""

from dues.accounts.attempts import Quota, count, count_with
from dues.accounts.models import mailbox_of
from dues.errors import TooManyRequests
from dues.jobs import PermanentFailure
from dues.mail.address import without_tag
from dues.mail.ledger import is_written_down

_DAY_S = 86_400
# Of all kinds together, except for links: whoever asks for those must not keep other news from their reader.
_NEWS = Quota("mails-to-unverified", 20, _DAY_S, "mails to an e-mail that is not verified")
_RESETS = Quota("resets-of-unverified", 20, _DAY_S, "links for a new password to an e-mail that is not verified")
_VERIFICATIONS = Quota("verifications-of-unverified", 20, _DAY_S, "links to verify one address")


def count_mail(dedupe_key: str, email: str) -> None:
    """A mail is about to be written down; one that is already does not count again.

    Raises: PermanentFailure where the address has had its most mails today.
    """
    _count_once(_NEWS, dedupe_key, email)


def may_mail(email: str) -> bool:
    """A mail is written down in the caller's transaction(), unless the address has had its most mails today."""
    return count_with(_NEWS, _reader_of(email))


def count_reset(dedupe_key: str, email: str) -> None:
    """The same of a link for a new password, which anybody may ask for. Raises: PermanentFailure."""
    _count_once(_RESETS, dedupe_key, email)


def count_verification(email: str) -> None:
    """A link to verify the address is asked for, with a token of its account. Raises: TooManyRequests."""
    count(_VERIFICATIONS, _reader_of(email))


def _count_once(quota: Quota, dedupe_key: str, email: str) -> None:
    if is_written_down(dedupe_key):
        return
    try:
        count(quota, _reader_of(email))
    except TooManyRequests as refused:
        raise PermanentFailure(refused) from refused


def _reader_of(email: str) -> str:
    """Whoever reads the address, and so gets the mails of all accounts that were made with tags of it."""
    return without_tag(mailbox_of(email))
