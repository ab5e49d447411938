"""Refunding what a member has paid for but not used, when a subscription is ended early."""

from datetime import datetime
from uuid import UUID

import msgspec

from dues.billing import periods
from dues.billing.credit_notes import NewCreditNote, create_credit_note, get_invoice
from dues.postgres import fetch_row
from dues.subscriptions.proration import unused
from dues.subscriptions.subscription import Subscription

# The newest first, because the latest payment is refunded first; each with the amount that is neither credited nor
# about to be.
_PAID = """
    select coalesce(json_agg(json_build_object('id', i.id, 'left', i.total - i.credited - coalesce(n.pending, 0),
        'charged', case when i.payment_id is null then 0 else i.amount_due - coalesce(n.refunded, 0) end)
        order by i.created_at desc, i.id desc), '[]')::text
    from invoices i
    left join lateral (
        select sum(total) filter (where status = 'pending') as pending,
            sum(total) filter (where status <> 'failed' and refund_id is not null) as refunded
        from credit_notes c where c.store_id = i.store_id and c.invoice_id = i.id) n on true
    where i.store_id = %(store_id)s and i.subscription_id = %(id)s and i.status = 'paid' and i.total > 0
"""


class _Paid(msgspec.Struct):
    """An invoice. `left` is how much of it can still be credited, `charged` how much of it can go back to the card."""

    id: UUID
    left: int
    charged: int


def refund_unused(subscription: Subscription, at: datetime, requested_by: UUID) -> int:
    """Refund the unused share of what was charged for the present period: to the card as far as it was charged, and the
    rest to the balance. Returns: how much, in minor units."""
    paid = periods.covering(subscription, at)
    amount = left = unused(paid.covered if paid else None, at)
    if amount == 0:
        return 0
    (document,) = fetch_row(_PAID, {"store_id": subscription.store_id, "id": subscription.id}) or ("[]",)
    for invoice in msgspec.json.decode(document, type=list[_Paid]):
        to_card = max(0, min(left, invoice.left, invoice.charged))
        to_balance = min(left - to_card, invoice.left - to_card) if invoice.charged <= to_card else 0
        for part, to in ((to_card, "payment"), (to_balance, "balance")):
            if part > 0:
                note = msgspec.convert({"amount": part, "to": to, "reason": "not used"}, NewCreditNote)
                create_credit_note(get_invoice(subscription.store_id, invoice.id), requested_by, note)
                left -= part
        if left == 0:
            break
    return amount - left
