"""Sending a mail as the last step of a job: the outcomes of mail and job are committed together."""

from collections.abc import Callable
from uuid import UUID

from dues.errors import Problem
from dues.jobs import LeaseLost, PermanentFailure, Run, kinds
from dues.mail.service import Draft, Outcome, record, send, send_draft
from dues.postgres import transaction
from workers.job import job
from workers.retry_db import patiently


class MailNotSent(Problem):
    """The mail was refused, or it is unknown whether the mail server accepted it."""

    status, title, code = 502, "The mail was not sent", "mail_not_sent"


_WHY = {
    "rejected": "the mail server refused the mail",
    "unknown": "it cannot be known whether the mail server took the mail, so it is not sent again",
}


Ended = Callable[[Outcome], None]


def send_mail(run: Run, draft: Draft, ended: Ended = lambda outcome: None) -> None:
    """Send `draft` and end the job. `ended(outcome)` records what else depends on the outcome, in the same transaction.

    Raises: MailDeferred (a Retry), PermanentFailure, LeaseLost.
    """
    _finish(run, send_draft(draft, fence=run.lease.token, may_commit=keeper(run)), ended)


@job(kinds.MAILING_SEND)
def send_queued(run: Run, email_id: str) -> None:
    _finish(run, send(UUID(email_id), fence=run.lease.token, may_commit=keeper(run)), lambda outcome: None)


def keeper(run: Run) -> Callable[[], bool]:
    """Whether the job is still ours, as the last question before a final dot."""

    def is_still_ours() -> bool:
        try:
            run.check()
        except LeaseLost:
            return False
        return True

    return is_still_ours


def _finish(run: Run, outcome: Outcome, ended: Ended) -> None:
    if outcome.state == "sent":
        _write_sent(run, outcome, ended)
        return
    _write_down(outcome, ended)
    raise PermanentFailure(MailNotSent(_WHY[outcome.state]))


def _write_down(outcome: Outcome, ended: Ended) -> None:
    with transaction():
        record(outcome)
        ended(outcome)


def _write_sent(run: Run, outcome: Outcome, ended: Ended) -> None:
    """Record that the mail server has accepted the mail. Only this process knows it, so it tries for a while if
    PostgreSQL cannot be reached, and records it even if the job has another worker by then."""

    def write() -> None:
        with run.completion():
            record(outcome)
            ended(outcome)

    try:
        patiently(write, though_stopping=True)
    except LeaseLost:
        _write_down(outcome, ended)
        raise
