"""The mails about an account: a link to prove an address, a link to choose a new password, and notices of changes.

They go to addresses that may be a stranger's, so nothing stands in them that somebody typed: no name either. What a
link opens is a secret: once a mail with one has gone out, the ledger forgets what it said.
"""

from pathlib import Path
from uuid import UUID

from dues.accounts.codes import LIFETIMES, Purpose, issue_code
from dues.accounts.models import find_user
from dues.accounts.unverified import count_mail, count_reset
from dues.accounts.users import Notice
from dues.mail.message import Templates
from dues.mail.service import Draft
from dues.postgres import fetch_row, transaction
from dues.settings import settings, site

_templates = Templates(Path(__file__).parent / "templates")

_UNVERIFIED = """
    select id, email from users where id = %(user_id)s and deleted_at is null and email_verified_at is null
"""

_SUBJECTS: dict[Purpose | Notice, str] = {
    "verify-email": "Confirm your e-mail address",
    "reset-password": "Choose a new password",
    "email-changed": "The e-mail address of your account was changed",
    "password-changed": "The password of your account was changed",
}


def verification(job_id: UUID, user_id: UUID) -> Draft | None:
    """A link to prove the user's address. Not in a transaction. Returns: None where there is nothing to prove."""
    with transaction():
        row = fetch_row(_UNVERIFIED, {"user_id": user_id})
        return _code_mail(job_id, "verify-email", *row) if row else None


def password_reset(job_id: UUID, email: str) -> Draft | None:
    """A link to choose a new password. Not in a transaction. Returns: None where the address has no account. Raises:
    PermanentFailure where one that is not verified has had its most links today."""
    with transaction():
        user = find_user(email)
        if user and not user.is_verified:
            count_reset(_key(job_id), user.email)
        return _code_mail(job_id, "reset-password", user.id, user.email) if user else None


def notice(job_id: UUID, what: Notice, email: str, *, is_verified: bool) -> Draft:
    """Tells an address of what was done with the account that has it, or had it, when it was verified or not. Raises:
    PermanentFailure where one that was not has had its most mails today."""
    if not is_verified:
        count_mail(_key(job_id), email)
    return _draft(job_id, what, email)


def _code_mail(job_id: UUID, purpose: Purpose, user_id: UUID, email: str) -> Draft:
    code, hours = issue_code(job_id, purpose, user_id, email), int(LIFETIMES[purpose].total_seconds()) // 3600
    within = "an hour" if hours == 1 else f"{hours} hours"
    return _draft(job_id, purpose, email, secret=True, link_url=_link(purpose, code), within=within)


def _draft(job_id: UUID, what: Purpose | Notice, email: str, *, secret: bool = False, **values: str) -> Draft:
    subject, template = _SUBJECTS[what], what.replace("-", "_")
    message = _templates.message(template, subject=subject, **{"site": site(), **values})  # type: ignore[arg-type]
    return Draft(_key(job_id), email, message, secret=secret)


def _key(job_id: UUID) -> str:
    return f"account:{job_id}"


def _link(purpose: Purpose, code: str) -> str:
    """Where a code is redeemed. By default the code follows a `#`, so that no server's log and no Referer has it."""
    template = settings().account_link_url or f"{settings().public_url}/account#{{purpose}}={{code}}"
    return template.replace("{purpose}", purpose).replace("{code}", code)
