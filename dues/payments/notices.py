"""The mails about a payment: one for each payment that succeeded, and one for each refund, however often they are
asked for."""

from uuid import UUID

from dues.errors import NotFound
from dues.jobs import PermanentFailure
from dues.mail.service import Draft
from dues.payments.confirmation import confirmation_message, refund_message
from dues.payments.receipt import Line, Receipt
from dues.postgres import fetch_row

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


def confirmation(store_id: UUID, payment_id: UUID) -> Draft:
    """Tells the payer that a payment was received. Raises: PermanentFailure."""
    receipt = get_receipt(store_id, payment_id)
    return Draft(f"payment-confirmation:{payment_id}", receipt.payer_email, confirmation_message(receipt))


def refund_notice(store_id: UUID, payment_id: UUID, refund_id: UUID) -> Draft:
    """Tells the payer that a refund was made. Raises: PermanentFailure."""
    receipt = get_receipt(store_id, payment_id)
    row = fetch_row(_REFUNDED, {"store_id": store_id, "refund_id": refund_id})
    if row is None:
        raise PermanentFailure(NotFound("there is no such refund"))
    return Draft(f"payment-refund:{refund_id}", receipt.payer_email, refund_message(receipt, row[0]))


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
