"""Jobs about accounts: each sends one mail, whose text is in dues/accounts/mails.py."""

from uuid import UUID

from dues.accounts import mails
from dues.accounts.users import Notice
from dues.jobs import Run, kinds
from dues.mail.service import Draft
from workers.job import job
from workers.mail import send_mail


@job(kinds.ACCOUNT_VERIFICATION)
def mail_verification(run: Run, user_id: str) -> None:
    _send(run, mails.verification(run.job_id, UUID(user_id)))


@job(kinds.ACCOUNT_PASSWORD_RESET)
def mail_password_reset(run: Run, email: str) -> None:
    _send(run, mails.password_reset(run.job_id, email))


@job(kinds.ACCOUNT_NOTICE)
def mail_notice(run: Run, notice: Notice, email: str, is_verified: bool = True) -> None:
    _send(run, mails.notice(run.job_id, notice, email, is_verified=is_verified))


def _send(run: Run, draft: Draft | None) -> None:
    if draft:
        send_mail(run, draft)
