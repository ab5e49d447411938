"""Issuing invoices and credit notes as documents. The content is read once, when the invoice or credit note is final
and has its number, and is stored; the document is never made again. However often a job asks for it, it gets the same
bytes."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import structs, to_builtins

from dues.billing.invoice_pdf import Credit, Printed, PrintedLine, invoice_pdf
from dues.documents.deliveries import begin_delivery
from dues.documents.service import Issued, Subject, get_file, issue_numbered, keep
from dues.errors import NotFound
from dues.jobs import PermanentFailure
from dues.payments.receipt import payer_shown, seller_shown
from dues.payments.receipts import method_shown
from dues.pdf.language import Language, Paper, paper_of, words_of
from dues.postgres import fetch_row, transaction
from dues.stores.logo import find_logo

Kind = Literal["invoice", "credit_note"]

_SALE = """
    'seller', i.seller, 'buyer', i.buyer, 'currency', i.currency, 'timezone', s.timezone, 'test', s.test,
    'language', s.language, 'paper', s.paper, 'tax_rate', i.tax_rate,
    'brand', m.brand, 'last4', m.last4, 'gateway', p.gateway
"""
_JOINS = """
    join stores s on s.id = i.store_id
    left join payments p on p.store_id = %(store_id)s and p.id = i.payment_id
    left join payment_methods m on m.user_id = p.user_id and m.id = p.payment_method_id
"""
_INVOICE = f"""
    select i.number, i.user_id, i.payment_id, json_build_object({_SALE}, 'issued_at', i.issued_at,
        'subtotal', i.subtotal, 'tax', i.tax, 'total', i.total, 'balance_applied', i.balance_applied,
        'amount_due', i.amount_due, 'reference', p.gateway_ref,
        'lines', (select json_agg(json_build_object('description', l.description, 'amount', l.amount,
            'quantity', l.quantity, 'period_start', l.period_start, 'period_end', l.period_end) order by l.position)
            from invoice_lines l where l.store_id = %(store_id)s and l.invoice_id = i.id))::text
    from invoices i {_JOINS}
    where i.store_id = %(store_id)s and i.id = %(id)s and i.number is not null
"""
_CREDIT_NOTE = f"""
    select n.number, n.user_id, case when r.id is not null then i.payment_id end,
        json_build_object({_SALE}, 'issued_at', n.issued_at, 'subtotal', n.subtotal, 'tax', n.tax, 'total', n.total,
        'reference', r.gateway_ref,
        'lines', json_build_array(json_build_object('description', i.number, 'amount', n.total)),
        'credit', json_build_object('invoice_id', i.id, 'invoice_number', i.number, 'invoice_issued_at', i.issued_at,
            'reason', n.reason, 'to_balance', r.id is null))::text
    from credit_notes n join invoices i on i.store_id = n.store_id and i.id = n.invoice_id
    left join refunds r on r.store_id = %(store_id)s and r.id = n.refund_id {_JOINS}
    where n.store_id = %(store_id)s and n.id = %(id)s and n.number is not null and i.number is not null
"""
_STATEMENTS: dict[Kind, str] = {"invoice": _INVOICE, "credit_note": _CREDIT_NOTE}
_OF_PAYMENT = "select id from invoices where store_id = %(store_id)s and payment_id = %(of)s and number is not null"
_OF_REFUND = "select id from credit_notes where store_id = %(store_id)s and refund_id = %(of)s and number is not null"


class _Seller(msgspec.Struct):
    """The frozen `seller` of an invoice."""

    name: str
    legal_name: str | None = None
    address: dict[str, Any] | None = None
    country: str | None = None
    tax_id: str | None = None
    contact_email: str | None = None
    website: str | None = None
    note: str | None = None


class _Buyer(msgspec.Struct):
    """The frozen `buyer` of an invoice."""

    name: str
    email: str = ""
    address: dict[str, Any] | None = None


class _Sale(msgspec.Struct, kw_only=True):
    """The result of the statements above."""

    seller: _Seller
    buyer: _Buyer
    currency: str
    timezone: str
    test: bool
    language: Language
    paper: Paper | None
    tax_rate: int
    brand: str | None
    last4: str | None
    gateway: str | None
    issued_at: datetime
    lines: list[PrintedLine]
    subtotal: int
    tax: int
    total: int
    balance_applied: int = 0
    amount_due: int = 0
    reference: str | None = None
    credit: Credit | None = None


def issue(store_id: UUID, kind: Kind, subject_id: UUID, sent_by: UUID | None = None) -> Issued:
    """The document of a final invoice or credit note, with its file; `sent_by` is the job that will send it. Must not
    be called within a transaction. Raises: PermanentFailure if there is no such final invoice or credit note."""
    with transaction():
        document = _write_down(store_id, kind, subject_id)
        if sent_by:
            begin_delivery(document, sent_by)
    if document.content is None:
        content = invoice_pdf(msgspec.convert(document.data, Printed), find_logo(store_id))
        with transaction():
            keep(document, content)
    return get_file(store_id, kind, subject_id)


def issue_for_payment(store_id: UUID, payment_id: UUID, sent_by: UUID) -> Issued | None:
    """The document of the invoice that a payment has paid; None if the payment has no invoice."""
    row = fetch_row(_OF_PAYMENT, {"store_id": store_id, "of": payment_id})
    return issue(store_id, "invoice", row[0], sent_by) if row else None


def issue_for_refund(store_id: UUID, refund_id: UUID, sent_by: UUID) -> Issued | None:
    """The document of a refund's credit note; None if the refunded payment was not invoiced."""
    row = fetch_row(_OF_REFUND, {"store_id": store_id, "of": refund_id})
    return issue(store_id, "credit_note", row[0], sent_by) if row else None


def _write_down(store_id: UUID, kind: Kind, subject_id: UUID) -> Issued:
    row = fetch_row(_STATEMENTS[kind], {"store_id": store_id, "id": subject_id})
    if row is None:
        raise PermanentFailure(NotFound(f"there is no such {kind.replace('_', ' ')} that is final"))
    number, user_id, payment_id, document = row
    subject = Subject(store_id=store_id, kind=kind, id=subject_id, user_id=user_id, payment_id=payment_id)
    return issue_numbered(subject, number, to_builtins(_content(number, document)))


def _content(number: str, document: str) -> Printed:
    sale = msgspec.json.decode(document, type=_Sale)
    seller, buyer, language = sale.seller, sale.buyer, sale.language
    lines = [_credited(line, language) for line in sale.lines] if sale.credit else sale.lines
    return Printed(
        number=number,
        seller=seller_shown(**structs.asdict(seller), language=language),
        buyer=payer_shown(**structs.asdict(buyer), language=language),
        currency=sale.currency,
        lines=lines,
        subtotal=sale.subtotal,
        tax=sale.tax,
        total=sale.total,
        issued_at=sale.issued_at,
        balance_applied=sale.balance_applied,
        amount_due=sale.amount_due,
        timezone=sale.timezone,
        test=sale.test,
        method=method_shown(sale.brand, sale.last4, sale.gateway, language) if sale.gateway else "",
        reference=sale.reference or "",
        credit=sale.credit,
        language=language,
        paper=paper_of(sale.paper, seller.country),
        tax_rate=sale.tax_rate,
    )


def _credited(line: PrintedLine, language: Language) -> PrintedLine:
    """The line of a credit note, with the invoice's number in its description."""
    return structs.replace(line, description=words_of(language)("Credit for invoice {number}", number=line.description))
