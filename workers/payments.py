"""Jobs about payments; what they do is in dues/payments."""

from uuid import UUID

from dues.jobs import Run, kinds
from dues.payments import notices, processing
from workers.job import job
from workers.mail import send_mail


@job(kinds.PAYMENT_CHARGE)
def charge(run: Run, store_id: str, payment_id: str, outcome: str | None = None) -> None:
    processing.charge(run, UUID(store_id), UUID(payment_id), outcome)


@job(kinds.PAYMENT_RECONCILE)
def reconcile(run: Run, store_id: str, payment_id: str) -> None:
    processing.reconcile(run, UUID(store_id), UUID(payment_id))


@job(kinds.PAYMENT_REFUND)
def refund(run: Run, store_id: str, refund_id: str) -> None:
    processing.refund(run, UUID(store_id), UUID(refund_id))


@job(kinds.PAYMENT_CONFIRMATION)
def confirm(run: Run, store_id: str, payment_id: str, refund_id: str | None = None) -> None:
    if refund_id is None:
        draft = notices.confirmation(UUID(store_id), UUID(payment_id))
    else:
        draft = notices.refund_notice(UUID(store_id), UUID(payment_id), UUID(refund_id))
    send_mail(run, draft)
