"""Proving that an e-mail address is one's own, and getting back into an account whose password is lost: both by a code
that is mailed to the address. `check_…` comes before the transaction; every other function is part of its caller's.

Whether an address has an account is told to nobody who asks for a reset: a job is enqueued in any case and finds out.
"""

from uuid import UUID

from msgspec import Struct

from dues.accounts.attempts import Quota, count, forget
from dues.accounts.codes import Code, find_code, use_code
from dues.accounts.fields import Email, Password
from dues.accounts.models import mailbox_of
from dues.accounts.passwords import hash_password
from dues.accounts.telling import tell_cells
from dues.accounts.tokens import WRONG_PASSWORDS, revoke_tokens
from dues.accounts.unverified import count_verification
from dues.accounts.users import refuse_weak, set_password
from dues.clock import now
from dues.errors import Conflict
from dues.jobs import enqueue, kinds
from dues.postgres import fetch_row
from dues.reads.tags import touch

# To one address, from all who ask.
VERIFICATIONS = Quota("verifications", 5, 3600, "links to verify one address")
RESETS = Quota("resets", 5, 3600, "links for a new password to one address")

_PRESENT = "select email, email_verified_at is not null from users where id = %(user_id)s"


class EmailVerification(Struct):
    """That a link is on its way to this address."""

    email: str


class EmailConfirmation(Struct, forbid_unknown_fields=True):
    """The code of a link that was mailed."""

    code: Code


class PasswordReset(Struct, forbid_unknown_fields=True):
    """The address of an account whose password is lost."""

    email: Email


class PasswordResetConfirmation(Struct, forbid_unknown_fields=True):
    """The code of a link that was mailed, and the new password."""

    code: Code
    password: Password


def check_verification(user_id: UUID) -> EmailVerification:
    """Where a link will go. Raises: Conflict where the address is verified already; TooManyRequests."""
    email, is_verified = fetch_row(_PRESENT, {"user_id": user_id}) or ("", True)
    if is_verified:
        raise Conflict("the e-mail is verified already", code="email_verified")
    count(VERIFICATIONS, mailbox_of(email))
    count_verification(email)
    return EmailVerification(email)


def request_verification(user_id: UUID) -> UUID:
    """Have a link mailed to the user's address. Returns: the id of the job that does it."""
    return enqueue(kinds.ACCOUNT_VERIFICATION, {"user_id": str(user_id)}, owner_id=user_id)


def verify_email(confirmation: EmailConfirmation) -> None:
    """The address is its account's own. Raises: ValidationFailed for a code that does not work."""
    user, _ = use_code(confirmation.code, "verify-email")
    user.email_verified_at = user.email_verified_at or now()
    touch(f"user:{user.id}")
    tell_cells(user.id)


def check_reset_request(reset: PasswordReset) -> None:
    """Raises: TooManyRequests."""
    count(RESETS, mailbox_of(reset.email))


def request_reset(reset: PasswordReset) -> None:
    """Have a link mailed to the address, if it has an account; the job finds that out."""
    enqueue(kinds.ACCOUNT_PASSWORD_RESET, {"email": reset.email})


def check_reset(confirmation: PasswordResetConfirmation) -> str:
    """The hash of the new password. Raises: ValidationFailed for a code that does not work, or a password that is too
    weak."""
    holder = find_code(confirmation.code, "reset-password")
    refuse_weak(confirmation.password, holder.email, holder.name)
    return hash_password(confirmation.password)


def reset_password(confirmation: PasswordResetConfirmation, password_hash: str) -> None:
    """Another password, with which to log in anew: every token is revoked, and wrong passwords are counted anew. The
    code came by mail, so the address is verified, too. Raises: ValidationFailed for a code that does not work."""
    user, holder = use_code(confirmation.code, "reset-password")
    user.email_verified_at = user.email_verified_at or now()
    set_password(user, password_hash)
    revoke_tokens(user.id)
    forget(WRONG_PASSWORDS, mailbox_of(holder.email))
    touch(f"user:{user.id}")
    tell_cells(user.id)
