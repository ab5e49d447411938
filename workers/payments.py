"""Jobs about payments; dues/payments does the work."""

from uuid import UUID

from dues.billing.issuing import issue_for_payment, issue_for_refund
from dues.documents.deliveries import end_delivery
from dues.jobs import Run, kinds
from dues.mail.service import Outcome
from dues.payments import notices, processing
from dues.payments.confirmation import About
from workers.job import job
from workers.mail import send_mail


@job(kinds.PAYMENT_CHARGE)
def charge(run: Run, store_id: str, payment_id: str, outcome: str | None = None) -> None:
    processing.charge(run, UUID(store_id), UUID(payment_id), outcome)


@job(kinds.PAYMENT_RECONCILE)
def reconcile(run: Run, store_id: str, payment_id: str) -> None:
    processing.reconcile(run, UUID(store_id), UUID(payment_id))


@job(kinds.PAYMENT_CANCEL)
def cancel(run: Run, store_id: str, payment_id: str) -> None:
    processing.cancel(run, UUID(store_id), UUID(payment_id))


@job(kinds.PAYMENT_REFUND)
def refund(run: Run, store_id: str, refund_id: str) -> None:
    processing.refund(run, UUID(store_id), UUID(refund_id))


@job(kinds.PAYMENT_CONFIRMATION)
def confirm(run: Run, store_id: str, payment_id: str, refund_id: str | None = None) -> None:
    store, payment = UUID(store_id), UUID(payment_id)
    if refund_id is None:
        invoice = issue_for_payment(store, payment, run.job_id)
        _send(run, notices.confirmation(run.job_id, store, payment, invoice))
    else:
        credit_note = issue_for_refund(store, UUID(refund_id), run.job_id)
        _send(run, notices.refund_notice(run.job_id, store, payment, UUID(refund_id), credit_note))


@job(kinds.DOCUMENT_DELIVERY)
def deliver(run: Run, store_id: str, payment_id: str) -> None:
    _send(run, notices.receipt_again(run.job_id, UUID(store_id), UUID(payment_id)))


@job(kinds.PAYMENT_NOTICE)
def tell(run: Run, store_id: str, payment_id: str, about: About, user_id: str | None = None) -> None:
    draft = notices.payment_notice(UUID(store_id), UUID(payment_id), about, UUID(user_id) if user_id else None)
    if draft:
        send_mail(run, draft)


@job(kinds.PAYMENT_RETURNED)
def tell_of_return(run: Run, store_id: str, payment_id: str, refund_id: str, is_credited: bool) -> None:
    ids = UUID(store_id), UUID(payment_id), UUID(refund_id)
    send_mail(run, notices.refund_returned(*ids, is_credited=is_credited))


def _send(run: Run, mail: notices.DocumentMail) -> None:
    def ended(outcome: Outcome) -> None:
        for document in mail.documents:
            end_delivery(document, run.job_id, outcome)

    send_mail(run, mail.draft, ended)
