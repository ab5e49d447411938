"""Issuing receipts, and documents about refunds. The content is read once, and stored under the store's next number.
However often a job asks for a document, it gets the same number and the same bytes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from msgspec import convert, to_builtins

from dues.documents.deliveries import begin_delivery
from dues.documents.service import Issued, Kind, Subject, issue, keep
from dues.errors import NotFound
from dues.jobs import PermanentFailure, enqueue, kinds
from dues.jobs.outbox import JSON
from dues.payments.receipt import Receipt, Refunded, payer_shown, receipt_pdf, seller_shown
from dues.pdf.language import Language, Paper, paper_of, words_of
from dues.postgres import fetch_row, transaction
from dues.stores.logo import find_logo

_PAYMENT = """
    select p.id, p.user_id, p.status, p.amount, p.currency, p.description, p.gateway, p.gateway_ref,
        coalesce(p.paid_at, p.created_at) as paid_at,
        m.brand, m.last4, s.name as store, s.timezone, s.test, s.legal_name, s.address, s.country, s.tax_id,
        s.contact_email, s.website, s.invoice_note, s.language, s.paper,
        -- An invoice may have been drawn up long before it was paid.
        coalesce((select i.tax_rate from invoices i where i.store_id = %(store_id)s and i.payment_id = p.id limit 1),
            s.tax_rate) as tax_rate,
        coalesce(c.name, u.name) as payer, coalesce(c.email, u.email) as email,
        case when a.id is not null then json_build_object('line1', a.line1, 'line2', a.line2, 'city', a.city,
            'region', a.region, 'postal_code', a.postal_code, 'country', a.country, 'company', a.company,
            'tax_id', a.tax_id) end as payer_address
    from payments p
    join stores s on s.id = p.store_id
    join users u on u.id = p.user_id
    left join payment_methods m on m.user_id = p.user_id and m.id = p.payment_method_id
    left join customers c on c.store_id = %(store_id)s and c.user_id = p.user_id
    -- Of those whom the store has imported it knows no address, until they come themselves.
    left join addresses a on a.user_id = p.user_id and a.is_default and c.name is null
    where p.store_id = %(store_id)s and p.id = %(payment_id)s
"""
_REFUND = """
    select r.amount, r.reason, r.gateway_ref, r.settled_at,
        (select coalesce(sum(e.amount), 0) from refunds e
            where e.store_id = %(store_id)s and e.payment_id = r.payment_id and e.status = 'succeeded'
                and (e.settled_at, e.id) < (r.settled_at, r.id))::bigint as before,
        -- The credit note says the same.
        (select n.tax from credit_notes n
            where n.store_id = %(store_id)s and n.refund_id = r.id and n.total = r.amount limit 1) as tax
    from refunds r
    where r.store_id = %(store_id)s and r.payment_id = %(payment_id)s and r.id = %(refund_id)s
        and (r.status = 'succeeded' or r.returned_at is not null)
"""


_OWNERS = """
    select coalesce(array_agg(o.user_id order by o.user_id), '{}')::text[] from store_staff o
    join stores s on s.id = o.store_id and s.notify_new_payment
    where o.store_id = %(store_id)s and o.role = 'owner'
"""


class _Paid(NamedTuple):
    """A payment with its store and its payer as they are at present."""

    payment_id: UUID
    user_id: UUID
    status: str
    amount: int
    currency: str
    description: str
    gateway: str
    gateway_ref: str | None
    paid_at: datetime
    brand: str | None
    last4: str | None
    store: str
    timezone: str
    test: bool
    legal_name: str | None
    address: dict[str, Any] | None
    country: str | None
    tax_id: str | None
    contact_email: str | None
    website: str | None
    invoice_note: str | None
    language: Language
    paper: Paper | None
    tax_rate: int
    payer: str
    email: str
    payer_address: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class IssuedReceipt:
    """An issued document, its content, and its file."""

    document: Issued
    receipt: Receipt
    file: bytes


def issue_receipt(store_id: UUID, payment_id: UUID, sent_by: UUID) -> IssuedReceipt:
    """Issue the receipt of a successful payment; the job `sent_by` will send it. If the store wants it, its owners are
    mailed about the payment. Must not be called within a transaction. Raises: PermanentFailure if there is no such
    payment."""
    with transaction():
        document = _receipt(store_id, _paid(store_id, payment_id))
        begin_delivery(document, sent_by)
    made = open_receipt(document)
    if document.content is None:
        with transaction():
            if keep(document, made.file):
                _mail_owners(store_id, payment_id)
    return made


def issue_refund(store_id: UUID, payment_id: UUID, refund_id: UUID, sent_by: UUID) -> IssuedReceipt:
    """Issue the document about a refund that was made. The receipt of its payment always gets the lower number,
    whichever of the two is requested first, and its tax rate is used for both. Must not be called within a transaction.
    Raises: PermanentFailure if there is no such refund."""
    with transaction():
        paid = _paid(store_id, payment_id)
        receipt = _receipt(store_id, paid)
        refunded = _refunded(store_id, payment_id, refund_id, receipt.number)
        # A refund includes the tax that was paid, whatever the store's rate is by now.
        paid = paid._replace(tax_rate=convert(receipt.data, Receipt).tax_rate)
        document = _issue(store_id, "refund", refund_id, paid, refunded)
        begin_delivery(document, sent_by)
    made = open_receipt(document)
    if document.content is None:
        with transaction():
            keep(document, made.file)
    return made


def describe_payment(store_id: UUID, payment_id: UUID) -> tuple[UUID, str, Receipt]:
    """The payer's id, the payment's status, and the content of a receipt without a number. Raises: PermanentFailure."""
    paid = _paid(store_id, payment_id)
    return paid.user_id, paid.status, _content(paid, "", None)


def describe_refund(store_id: UUID, payment_id: UUID, refund_id: UUID) -> tuple[UUID, Receipt]:
    """The payer's id, and the content of the document about a refund that was made, without numbers. Raises:
    PermanentFailure."""
    paid = _paid(store_id, payment_id)
    return paid.user_id, _content(paid, "", _refunded(store_id, payment_id, refund_id, ""))


def open_receipt(document: Issued) -> IssuedReceipt:
    """The content of an issued document and its file, which is made if there is none yet."""
    receipt = convert(document.data, Receipt)
    return IssuedReceipt(document, receipt, document.content or receipt_pdf(receipt, find_logo(document.store_id)))


def _receipt(store_id: UUID, paid: _Paid) -> Issued:
    return _issue(store_id, "receipt", paid.payment_id, paid)


def _issue(store_id: UUID, kind: Kind, subject_id: UUID, paid: _Paid, refunded: Refunded | None = None) -> Issued:
    subject = Subject(store_id=store_id, kind=kind, id=subject_id, user_id=paid.user_id, payment_id=paid.payment_id)
    return issue(subject, lambda number: to_builtins(_content(paid, number, refunded)))


def _paid(store_id: UUID, payment_id: UUID) -> _Paid:
    row = fetch_row(_PAYMENT, {"store_id": store_id, "payment_id": payment_id})
    if row is None:
        raise PermanentFailure(NotFound("there is no such payment"))
    return _Paid(*row)


def _refunded(store_id: UUID, payment_id: UUID, refund_id: UUID, receipt_number: str) -> Refunded:
    row = fetch_row(_REFUND, {"store_id": store_id, "payment_id": payment_id, "refund_id": refund_id})
    if row is None:
        raise PermanentFailure(NotFound("there is no such refund"))
    amount, reason, reference, refunded_at, before, tax = row
    return Refunded(
        amount=amount,
        refunded_at=refunded_at,
        receipt_number=receipt_number,
        before=before,
        tax=tax,
        reason=reason,
        reference=reference or "",
    )


def _content(paid: _Paid, number: str, refunded: Refunded | None) -> Receipt:
    return Receipt(
        number=number,
        seller=seller_shown(
            name=paid.store,
            legal_name=paid.legal_name,
            address=paid.address,
            country=paid.country,
            tax_id=paid.tax_id,
            contact_email=paid.contact_email,
            website=paid.website,
            note=paid.invoice_note,
            language=paid.language,
        ),
        payer=payer_shown(name=paid.payer, email=paid.email, address=paid.payer_address, language=paid.language),
        amount=paid.amount,
        currency=paid.currency,
        description=paid.description,
        paid_at=paid.paid_at,
        timezone=paid.timezone,
        test=paid.test,
        method=method_shown(paid.brand, paid.last4, paid.gateway, paid.language),
        reference=paid.gateway_ref or "",
        refund=refunded,
        language=paid.language,
        paper=paper_of(paid.paper, paid.country),
        tax_rate=paid.tax_rate,
    )


def method_shown(brand: str | None, last4: str | None, gateway: str, language: Language = "en") -> str:
    """The payment method in words, as far as the gateway describes it."""
    if last4:
        return f"{(brand or 'card').title()} •••• {last4}"
    return words_of(language)("{gateway} card", gateway=gateway.title())


def _mail_owners(store_id: UUID, payment_id: UUID) -> None:
    """Enqueue a mail about a new payment to each owner. Part of the caller's transaction()."""
    found = fetch_row(_OWNERS, {"store_id": store_id})
    for user_id in found[0] if found else ():
        args: dict[str, JSON] = {"store_id": str(store_id), "payment_id": str(payment_id)}
        enqueue(kinds.PAYMENT_NOTICE, args | {"about": "received", "user_id": str(user_id)}, store_id=store_id)
