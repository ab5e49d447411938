"""Invoices: drawn up as drafts, which are collected. Once paid, an invoice is final and has its number.

Many are written with one statement. The number is assigned last before the commit (numbering.py); after that PostgreSQL
refuses to change the invoice.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from dues.billing.numbering import number_at_commit
from dues.billing.reads import invoices
from dues.events import emit
from dues.jobs import enqueue, kinds
from dues.postgres import fetch_row, run_later
from dues.reads.tags import touch

InvoiceKind = Literal["create", "renewal", "change", "resume", "payment"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an invoice, in minor units; `amount` is negative where something is given back."""

    description: str
    amount: int
    quantity: int = 1
    package_id: UUID | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice as it is drawn up: the columns of `invoices`."""

    store_id: UUID
    id: UUID
    user_id: UUID
    kind: InvoiceKind
    currency: str
    subtotal: int
    tax: int
    tax_rate: int
    total: int
    balance_applied: int
    amount_due: int
    created_at: datetime
    updated_at: datetime
    subscription_id: UUID | None = None
    payment_id: UUID | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None
    status: Literal["draft", "paid", "void"] = "draft"
    credited: int = 0
    version: int = 1


class Payment(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice that is paid; `payment_id` is None if no amount was due."""

    store_id: UUID
    id: UUID
    user_id: UUID
    at: datetime
    payment_id: UUID | None


_COLUMNS = ", ".join(field.name for field in msgspec.structs.fields(Invoice))
_DRAW_UP = f"""
    insert into invoices({_COLUMNS}) select {_COLUMNS} from jsonb_populate_recordset(null::invoices, %(rows)s::jsonb)
"""
_LINES = """
    insert into invoice_lines select * from jsonb_populate_recordset(null::invoice_lines, %(rows)s::jsonb)
"""
_FINISH = """
    update invoices i set status = 'paid', payment_id = coalesce(r.payment_id, i.payment_id), issued_at = r.at,
        version = i.version + 1, updated_at = r.at, seller = r.seller, buyer = r.buyer
    from (
        select r.*,
            jsonb_build_object('name', s.name, 'legal_name', s.legal_name, 'address', s.address,
                'country', s.country, 'tax_id', s.tax_id, 'contact_email', s.contact_email, 'website', s.website,
                'note', s.invoice_note) as seller,
            jsonb_build_object('name', coalesce(c.name, u.name), 'email', coalesce(c.email, u.email), 'address', (
                select jsonb_build_object('line1', a.line1, 'line2', a.line2, 'postal_code', a.postal_code,
                    'city', a.city, 'region', a.region, 'country', a.country, 'company', a.company, 'tax_id', a.tax_id)
                from addresses a where a.user_id = u.id and a.is_default and c.name is null)) as buyer
        from jsonb_to_recordset(%(rows)s::jsonb)
            as r(store_id uuid, id uuid, user_id uuid, at timestamptz, payment_id uuid)
        join stores s on s.id = r.store_id
        join users u on u.id = r.user_id
        left join customers c on c.store_id = {store} and c.user_id = r.user_id) r
    where i.store_id = {store} and i.id = r.id and i.status = 'draft'
"""
# Of one store, which is said as a value: a database that is spread over several servers then knows where to look.
_FINISH_OF_STORE, _FINISH_OF_STORES = _FINISH.format(store="%(store_id)s"), _FINISH.format(store="r.store_id")
_REVISE = """
    update invoices set balance_applied = %(balance_applied)s, amount_due = %(amount_due)s, version = version + 1,
        updated_at = %(at)s
    where store_id = %(store_id)s and id = %(id)s and status = 'draft'
"""
_VOID = """
    update invoices set status = 'void', voided_at = %(at)s, version = version + 1, updated_at = %(at)s
    where store_id = %(store_id)s and id = %(id)s and status <> 'void'
"""
_LAST_LINE = """
    select package_id, amount from invoice_lines
    where store_id = %(store_id)s and invoice_id = %(id)s order by position desc limit 1
"""
_GET = """
    select to_jsonb(i)::text from invoices i where i.store_id = %(store_id)s and i.id = %(id)s for update
"""


def draw_up(drafts: Sequence[tuple[Invoice, Sequence[Line]]]) -> None:
    """Write drafts and their lines. Part of the caller's transaction()."""
    run_later(_DRAW_UP, {"rows": msgspec.json.encode([draft for draft, _ in drafts]).decode()})
    lines = [
        msgspec.to_builtins(line) | {"store_id": draft.store_id, "invoice_id": draft.id, "position": position}
        for draft, lines in drafts
        for position, line in enumerate(lines, 1)
    ]
    run_later(_LINES, {"rows": msgspec.json.encode(lines).decode()})
    for draft, _ in drafts:
        touch_invoice(draft.store_id, draft.user_id)


def finish(payments: Sequence[Payment]) -> None:
    """Mark drafts as paid: they record the seller and the buyer as they are now, and get their numbers. Part of the
    caller's transaction()."""
    rows, stores = msgspec.json.encode(payments).decode(), {paid.store_id for paid in payments}
    if len(stores) == 1:
        run_later(_FINISH_OF_STORE, {"rows": rows, "store_id": stores.pop()})
    else:
        run_later(_FINISH_OF_STORES, {"rows": rows})
    for paid in payments:
        number_at_commit("invoices", paid.store_id, paid.id)
        if paid.payment_id is None:
            issue_later(paid.store_id, "invoice", paid.id)
        emit(paid.store_id, "invoice.paid", invoices, {"store_id": paid.store_id, "id": paid.id})
        touch_invoice(paid.store_id, paid.user_id)


def issue_later(store_id: UUID, kind: Literal["invoice", "credit_note"], subject_id: UUID) -> None:
    """Enqueue the making of a document that is not sent by mail. Part of the caller's transaction()."""
    args = {"store_id": str(store_id), "kind": kind, "subject_id": str(subject_id)}
    enqueue(kinds.DOCUMENT_ISSUE, args, store_id=store_id)


def revise(draft: Invoice, *, balance_applied: int, at: datetime) -> None:
    """Change how much of a draft is taken from the balance. Part of the caller's transaction()."""
    values = {
        "store_id": draft.store_id,
        "id": draft.id,
        "balance_applied": balance_applied,
        "amount_due": draft.total - balance_applied,
        "at": at,
    }
    run_later(_REVISE, values)
    touch_invoice(draft.store_id, draft.user_id)


def void(store_id: UUID, invoice_id: UUID, user_id: UUID, at: datetime, *, is_final: bool = False) -> None:
    """Void an invoice: a draft that is not to be paid any more or, with `is_final`, a paid invoice that was credited
    completely. Part of the caller's transaction()."""
    run_later(_VOID, {"store_id": store_id, "id": invoice_id, "at": at})
    if is_final:
        emit(store_id, "invoice.voided", invoices, {"store_id": store_id, "id": invoice_id})
    touch_invoice(store_id, user_id)


def charged(invoice: Invoice) -> tuple[UUID | None, int]:
    """The package and the amount of an invoice's last line, which is the line for the charged period."""
    row = fetch_row(_LAST_LINE, {"store_id": invoice.store_id, "id": invoice.id}, hot=True)
    return row if row else (None, 0)


def load(store_id: UUID, invoice_id: UUID) -> Invoice | None:
    """The invoice, locked for this transaction(); None if there is none."""
    row = fetch_row(_GET, {"store_id": store_id, "id": invoice_id}, hot=True)
    return msgspec.json.decode(row[0], type=Invoice) if row else None


def touch_invoice(store_id: UUID, user_id: UUID) -> None:
    """Invalidate cached answers that show an invoice of this user at this store, or a credit note of one."""
    touch(f"store:{store_id}:invoices", f"store:{store_id}:customers", f"user:{user_id}")
