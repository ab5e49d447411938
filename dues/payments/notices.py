"""The mails about a payment, written down in the mail ledger: one for each payment that succeeded, and one for each
refund, however often they are asked for."""

from uuid import UUID

from dues.db import fetch_row, transaction
from dues.errors import NotFound, ValidationFailed
from dues.jobs import PermanentFailure
from dues.mail.message import Message
from dues.mail.service import queue_mail
from dues.payments.confirmation import confirmation_message, refund_message
from dues.payments.receipt import Line, Receipt

_RECEIPT = """
    select s.name, s.slug, u.name, u.email, p.amount, p.currency, p.description, p.status, p.refunded_amount,
        coalesce((select min(e.created_at) from payment_events e
            where e.store_id = p.store_id and e.payment_id = p.id and e.to_status = 'succeeded'), p.created_at)
    from payments p
    join stores s on s.id = p.store_id
    join users u on u.id = p.user_id
    where p.store_id = %(store_id)s and p.id = %(payment_id)s
"""
_REFUNDED = "select amount from refunds where store_id = %(store_id)s and id = %(refund_id)s"


def queue_confirmation(store_id: UUID, payment_id: UUID) -> UUID:
    """Tell the payer that a payment was received. Returns: the mail's id. Raises: PermanentFailure."""
    receipt = get_receipt(store_id, payment_id)
    return _queue(f"payment-confirmation:{payment_id}", receipt, confirmation_message(receipt))


def queue_refund_notice(store_id: UUID, payment_id: UUID, refund_id: UUID) -> UUID:
    """Tell the payer that a refund was made. Returns: the mail's id. Raises: PermanentFailure."""
    receipt = get_receipt(store_id, payment_id)
    row = fetch_row(_REFUNDED, {"store_id": store_id, "refund_id": refund_id})
    if row is None:
        raise PermanentFailure(NotFound("there is no such refund"))
    return _queue(f"payment-refund:{refund_id}", receipt, refund_message(receipt, row[0]))


def get_receipt(store_id: UUID, payment_id: UUID) -> Receipt:
    """What the receipt of a payment says at present. Raises: PermanentFailure where there is no such payment."""
    row = fetch_row(_RECEIPT, {"store_id": store_id, "payment_id": payment_id})
    if row is None:
        raise PermanentFailure(NotFound("there is no such payment"))
    store, slug, payer, email, amount, currency, description, status, refunded, paid_at = row
    return Receipt(
        number=str(payment_id),
        store=store,
        store_slug=slug,
        payer=payer,
        payer_email=email,
        paid_at=paid_at,
        currency=currency,
        lines=(Line(description, amount),),
        status=status,
        refunded=refunded,
    )


def _queue(dedupe_key: str, receipt: Receipt, message: Message) -> UUID:
    with transaction():
        try:
            return queue_mail(dedupe_key, receipt.payer_email, message)
        except ValidationFailed as refused:
            raise PermanentFailure(refused) from refused
