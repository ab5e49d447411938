"""Jobs about subscriptions; dues/billing does the work."""

from uuid import UUID

from dues.billing import issuing, notices, renewals
from dues.jobs import Run, kinds
from workers.job import job
from workers.mail import send_mail


@job(kinds.SUBSCRIPTION_RENEW)
def renew(run: Run) -> dict[str, int]:
    return renewals.renew(run)


@job(kinds.SUBSCRIPTION_NOTICE)
def notify(run: Run, **told: object) -> None:
    send_mail(run, notices.notice(told))


@job(kinds.DOCUMENT_ISSUE)
def issue(run: Run, store_id: str, kind: issuing.Kind, subject_id: str) -> None:
    issuing.issue(UUID(store_id), kind, UUID(subject_id))
