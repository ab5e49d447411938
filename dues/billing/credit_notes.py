"""Credit notes: corrections of a final invoice, given back by a refund or to the member's balance.

Every refund of an invoiced payment has a credit note. It becomes final and gets its number when the money has gone
back. An invoice that was credited completely is void, and stays readable under its number.
"""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from dues.billing import books, invoices
from dues.billing.accounts import lock_customer
from dues.billing.books import Booking, Entry, gateway
from dues.billing.invoices import Invoice
from dues.billing.numbering import number_at_commit
from dues.billing.posting import Posting
from dues.billing.reads import credit_notes
from dues.billing.tax import split_credit
from dues.clock import store_now
from dues.errors import Conflict, InvalidTransition, NotFound
from dues.events import emit
from dues.ids import new_id
from dues.jobs import enqueue, kinds
from dues.jobs.outbox import JSON
from dues.money import PositiveAmount
from dues.payments.models import Payment, Refund
from dues.payments.service import NewRefund, create_refund, get_payment, payment_args
from dues.payments.state import Refunded, limits_refunds, when_refund_opened, when_refunded
from dues.postgres import fetch_row, run_later
from dues.text import OneLine

Reason = Annotated[OneLine, Meta(max_length=500)]

_ADD = """
    insert into credit_notes select * from jsonb_populate_recordset(null::credit_notes, %(rows)s::jsonb)
"""
_ISSUE = """
    update credit_notes set status = 'issued', issued_at = %(at)s, version = version + 1, updated_at = %(at)s
    where store_id = %(store_id)s and refund_id = %(refund_id)s and status = 'pending'
    returning id, total, subtotal, tax
"""
_FAIL = """
    update credit_notes set status = 'failed', version = version + 1, updated_at = %(at)s
    where store_id = %(store_id)s and refund_id = %(refund_id)s and status = 'pending'
"""
_CREDITED = """
    update invoices set credited = credited + %(total)s, version = version + 1, updated_at = %(at)s
    where store_id = %(store_id)s and id = %(id)s
"""
_OF_PAYMENT = """
    select to_jsonb(i)::text from invoices i
    where i.store_id = %(store_id)s and i.payment_id = %(payment_id)s and i.status <> 'draft' for update
"""
_USER_AND_PAYMENT = "select user_id, payment_id from invoices where store_id = %(store_id)s and id = %(id)s"
_OF_REFUND = "select id from credit_notes where store_id = %(store_id)s and refund_id = %(refund_id)s"
# What was credited of an invoice, or is about to be.
_CREDITED_SO_FAR = """
    select coalesce(sum(subtotal), 0), coalesce(sum(tax), 0)
    from credit_notes where store_id = %(store_id)s and invoice_id = %(id)s and status in ('issued', 'pending')
"""


class NewCreditNote(Struct, forbid_unknown_fields=True):
    """How much of an invoice to credit: everything that is left, unless `amount` says less. The money goes back to the
    card (`to`: `payment`) or to the member's balance at the store (`balance`)."""

    amount: PositiveAmount | UnsetType = UNSET
    reason: Reason = ""
    to: Literal["payment", "balance"] = "payment"


class CreditNote(Struct, frozen=True, kw_only=True):
    """The columns of `credit_notes`."""

    store_id: UUID
    id: UUID
    invoice_id: UUID
    user_id: UUID
    status: Literal["pending", "issued"]
    currency: str
    subtotal: int
    tax: int
    total: int
    reason: str
    created_at: datetime
    updated_at: datetime
    refund_id: UUID | None = None
    issued_at: datetime | None = None
    sequence: int | None = None
    number: str | None = None
    version: int = 1


def get_invoice(store_id: UUID, invoice_id: UUID) -> Invoice:
    """The invoice, locked for this transaction together with its member's money and its payment. Raises: NotFound."""
    found = fetch_row(_USER_AND_PAYMENT, {"store_id": store_id, "id": invoice_id})
    if found is None:
        raise NotFound("there is no such invoice")
    user_id, payment_id = found
    # All code that moves money takes these locks in this order, which prevents deadlocks.
    lock_customer(store_id, user_id, store_now(store_id))
    if payment_id:
        get_payment(store_id, payment_id)
    invoice = invoices.load(store_id, invoice_id)
    assert invoice
    return invoice


def create_credit_note(invoice: Invoice, requested_by: UUID, new: NewCreditNote) -> tuple[UUID, UUID | None]:
    """Create a credit note for a locked invoice. Returns: its id, and the id of the job that makes the refund (None for
    a credit to the balance).

    Raises: InvalidTransition if the invoice is not final; Conflict if less than the amount is left, or if nothing was
    charged that could be refunded.
    """
    if invoice.status != "paid":
        raise InvalidTransition(f"an invoice that is {invoice.status} cannot be credited")
    left = _remaining(invoice)
    amount = left if new.amount is UNSET else new.amount
    if not 0 < amount <= left:
        raise Conflict(f"only {left} of the invoice is left to credit", code="credit_exceeds_invoice", creditable=left)
    at = store_now(invoice.store_id)
    if new.to == "balance":
        return _credit_to_balance(invoice, amount, new.reason, at), None
    if invoice.payment_id is None or invoice.amount_due == 0:
        raise Conflict("nothing of the invoice was charged: credit it to the balance", code="nothing_charged")
    payment = get_payment(invoice.store_id, invoice.payment_id)
    refund = create_refund(payment, requested_by, NewRefund(amount=amount, reason=new.reason))
    (note_id,) = fetch_row(_OF_REFUND, {"store_id": invoice.store_id, "refund_id": refund.id}) or (None,)
    assert note_id
    return note_id, refund.job_id


def _credit_to_balance(invoice: Invoice, amount: int, reason: str, at: datetime) -> UUID:
    note = _new_note(invoice, amount, reason, at)
    _add(note)
    posting = Posting(at)
    posting.credit(invoice, amount, "credit_note", credit_note_id=note.id)
    entries = Entry("revenue", note.subtotal), Entry("tax", note.tax), Entry("balance", -amount)
    posting.book(invoice, "credit", f"credit_note:{note.id}", entries)
    posting.write()
    _finish(invoice, note.id, amount, at)
    invoices.issue_later(invoice.store_id, "credit_note", note.id)
    return note.id


@limits_refunds
def creditable(payment: Payment) -> int | None:
    """How much of a payment's invoice can still be credited, in minor units; None if it has no invoice."""
    invoice = _invoice_of(payment)
    return _remaining(invoice) if invoice else None


@when_refund_opened
def refund_opened(payment: Payment, refund: Refund) -> None:
    """Create the pending credit note of a new refund, which reserves the amount against other credit notes."""
    if invoice := _invoice_of(payment):
        at = store_now(payment.store_id)
        _add(_new_note(invoice, refund.amount, refund.reason, at, refund_id=refund.id, status="pending"))


def _invoice_of(payment: Payment) -> Invoice | None:
    """The final invoice that a payment has paid, locked for this transaction."""
    found = fetch_row(_OF_PAYMENT, {"store_id": payment.store_id, "payment_id": payment.id})
    return msgspec.json.decode(found[0], type=Invoice) if found else None


@when_refunded
def payment_refunded(refund: Refunded) -> None:
    """Book the result of a refund, and make its credit note final or mark it as failed."""
    payment = refund.payment
    if refund.is_returned:
        _credit_returned(refund)
        return
    if refund.status != "succeeded":
        run_later(_FAIL, {"store_id": payment.store_id, "refund_id": refund.id, "at": refund.at})
        invoices.touch_invoice(payment.store_id, payment.user_id)
        return
    invoice = _invoice_of(payment)
    if invoice is None:
        if books.is_earlier(payment.store_id, payment.id):
            _book(refund, "refund", (Entry("earlier", refund.amount),))
        else:
            _book(refund, "unapplied_refund", (Entry("unapplied", refund.amount),))
        return
    issued = fetch_row(_ISSUE, {"store_id": payment.store_id, "refund_id": refund.id, "at": refund.at})
    if issued is None:
        note = _new_note(invoice, refund.amount, refund.reason, refund.at, refund_id=refund.id)
        _add(note)
        issued = note.id, note.total, note.subtotal, note.tax
    note_id, total, subtotal, tax = issued
    _book(refund, "refund", (Entry("revenue", subtotal), Entry("tax", tax)))
    _finish(invoice, note_id, total, refund.at)


def _credit_returned(refund: Refunded) -> None:
    """A refund was sent back, so the money is still owed: it goes to the member's balance, and the credit note remains
    valid. If nobody had owed the payment, there is no invoice and no credit note; then the money counts as unapplied
    again, which the audit reports."""
    payment, invoice = refund.payment, _invoice_of(refund.payment)
    if invoice is None:
        owed = "earlier" if books.is_earlier(payment.store_id, payment.id) else "unapplied"
        _book(refund, "returned_refund", (Entry(owed, -refund.amount),), sign=-1)
        _mail_payer(refund, is_credited=False)
        return
    lock_customer(payment.store_id, payment.user_id, refund.at)
    (note_id,) = fetch_row(_OF_REFUND, {"store_id": payment.store_id, "refund_id": refund.id}) or (None,)
    assert note_id
    posting = Posting(refund.at)
    posting.credit(invoice, refund.amount, "credit_note", credit_note_id=note_id)
    posting.write()
    _book(refund, "returned_refund", (Entry("balance", -refund.amount),), sign=-1)
    invoices.touch_invoice(payment.store_id, payment.user_id)
    _mail_payer(refund, is_credited=True)


def _mail_payer(refund: Refunded, *, is_credited: bool) -> None:
    details: dict[str, JSON] = {"refund_id": str(refund.id), "is_credited": is_credited}
    enqueue(kinds.PAYMENT_RETURNED, payment_args(refund.payment) | details, store_id=refund.payment.store_id)


def _book(refund: Refunded, kind: books.Kind, from_accounts: tuple[Entry, ...], *, sign: int = 1) -> None:
    payment = refund.payment
    booking = Booking(
        store_id=payment.store_id,
        kind=kind,
        source=f"refund:{refund.id}" if sign > 0 else f"refund:{refund.id}:returned",
        user_id=payment.user_id,
        currency=payment.currency,
        at=refund.at,
        entries=(*from_accounts, Entry(gateway(payment.gateway), -sign * refund.amount)),
    )
    books.book([booking])


def _new_note(
    invoice: Invoice,
    total: int,
    reason: str,
    at: datetime,
    *,
    refund_id: UUID | None = None,
    status: Literal["pending", "issued"] = "issued",
) -> CreditNote:
    net_so_far, tax_so_far = _credited_so_far(invoice)
    subtotal, tax = split_credit(
        total, of_net=invoice.subtotal, of_tax=invoice.tax, credited_net=net_so_far, credited_tax=tax_so_far
    )
    return CreditNote(
        store_id=invoice.store_id,
        id=new_id(),
        invoice_id=invoice.id,
        user_id=invoice.user_id,
        refund_id=refund_id,
        status=status,
        currency=invoice.currency,
        subtotal=subtotal,
        tax=tax,
        total=total,
        reason=reason,
        created_at=at,
        updated_at=at,
        issued_at=at if status == "issued" else None,
    )


def _remaining(invoice: Invoice) -> int:
    return invoice.total - sum(_credited_so_far(invoice))


def _credited_so_far(invoice: Invoice) -> tuple[int, int]:
    """The net amount and the tax that were credited so far, including pending credit notes."""
    net, tax = fetch_row(_CREDITED_SO_FAR, {"store_id": invoice.store_id, "id": invoice.id}) or (0, 0)
    return int(net), int(tax)


def _add(note: CreditNote) -> None:
    run_later(_ADD, {"rows": msgspec.json.encode([note]).decode()})
    invoices.touch_invoice(note.store_id, note.user_id)


def _finish(invoice: Invoice, note_id: UUID, total: int, at: datetime) -> None:
    """Make a credit note final: it gets its number, and the invoice's credited amount grows."""
    number_at_commit("credit_notes", invoice.store_id, note_id)
    scope = {"store_id": invoice.store_id, "invoice_id": invoice.id, "viewer_id": None, "id": note_id}
    emit(invoice.store_id, "credit_note.created", credit_notes, scope)
    run_later(_CREDITED, {"store_id": invoice.store_id, "id": invoice.id, "total": total, "at": at})
    if invoice.credited + total == invoice.total:
        invoices.void(invoice.store_id, invoice.id, invoice.user_id, at, is_final=True)
    invoices.touch_invoice(invoice.store_id, invoice.user_id)
