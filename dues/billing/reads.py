"""Reads of invoices, credit notes and customers, and of subscriptions with their payments and invoices."""

from dataclasses import replace

from dues.accounts.models import User
from dues.accounts.reads import users
from dues.billing.models import CreditNote, Invoice
from dues.clock import sql_rfc3339
from dues.payments.models import Payment
from dues.payments.reads import payments
from dues.reads import Computed, Equal, Many, One, Range, Resource
from dues.reads.resource import Schema, Scope, links_schema
from dues.subscriptions import reads
from dues.subscriptions.models import SubscriptionRow

INVOICE_STATUSES = ("draft", "paid", "void")
CREDIT_NOTE_STATUSES = ("pending", "issued", "failed")

_STORE = "'/v1/stores/' || {store_id} || "
_PARTY: Schema = {
    "type": ["object", "null"],
    "description": "as it was when the invoice became final; null before that",
}
_PERIOD: Schema = {
    "type": ["object", "null"],
    "properties": {
        "start": {"type": "string", "format": "date-time"},
        "end": {"type": ["string", "null"], "format": "date-time"},
    },
}
_LINES: Schema = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "description": {"type": "string"},
            "amount": {"type": "integer", "description": "negative where something is given back"},
            "quantity": {"type": "integer"},
            "package_id": {"type": ["string", "null"], "format": "uuid"},
            "period": _PERIOD,
        },
    },
}


def _period(start: str, end: str) -> str:
    both = f"'start', {sql_rfc3339(start)}, 'end', {sql_rfc3339(end)}"
    return f"case when {start} is not null then json_build_object({both}) end"


def _tags(scope: Scope) -> tuple[str, ...]:
    store_id, user_id = scope.get("store_id"), scope.get("user_id")
    if user_id:
        return (f"user:{user_id}",)
    return (f"store:{store_id}:invoices", f"store:{store_id}:customers")


credit_notes = Resource(
    "CreditNote",
    CreditNote,
    fields={
        "id": CreditNote.id,
        "store_id": CreditNote.store_id,
        "invoice_id": CreditNote.invoice_id,
        "refund_id": CreditNote.refund_id,
        "status": Computed("{status}", {"type": "string", "enum": list(CREDIT_NOTE_STATUSES)}),
        "number": CreditNote.number,
        "currency": CreditNote.currency,
        "subtotal": CreditNote.subtotal,
        "tax": CreditNote.tax,
        "total": CreditNote.total,
        "reason": CreditNote.reason,
        "issued_at": CreditNote.issued_at,
        "version": CreditNote.version,
        "created_at": CreditNote.created_at,
        "updated_at": CreditNote.updated_at,
        "links": Computed(
            f"json_build_object('self', {_STORE}'/invoices/' || {{invoice_id}} || '/credit-notes/' || {{id}},"
            f" 'invoice', {_STORE}'/invoices/' || {{invoice_id}},"
            f" 'file', case when {{number}} is not null then"
            f" {_STORE}'/invoices/' || {{invoice_id}} || '/credit-notes/' || {{id}} || '/file' end)",
            links_schema("self", "invoice", nullable=("file",)),
        ),
    },
    sorts={"created_at": CreditNote.created_at},
    within=(
        "exists (select 1 from invoices i where i.store_id = %(store_id)s and i.id = %(invoice_id)s"
        " and (%(viewer_id)s::uuid is null or i.user_id = %(viewer_id)s::uuid))"
    ),
    tags=lambda scope: (f"store:{scope['store_id']}:invoices",),
)

invoices = Resource(
    "Invoice",
    Invoice,
    fields={
        "id": Invoice.id,
        "store_id": Invoice.store_id,
        "user_id": Invoice.user_id,
        "subscription_id": Invoice.subscription_id,
        "payment_id": Invoice.payment_id,
        "number": Invoice.number,
        "status": Computed("{status}", {"type": "string", "enum": list(INVOICE_STATUSES)}),
        "currency": Invoice.currency,
        "lines": Computed(
            "(select coalesce(json_agg(json_build_object('description', l.description, 'amount', l.amount,"
            " 'quantity', l.quantity, 'package_id', l.package_id,"
            f" 'period', {_period('l.period_start', 'l.period_end')}) order by l.position), '[]')"
            " from invoice_lines l where l.store_id = {store_id} and l.invoice_id = {id})",
            _LINES,
        ),
        "subtotal": Invoice.subtotal,
        "tax": Invoice.tax,
        "tax_rate": Computed("{tax_rate}", {"type": "integer", "description": "in parts per million: 190000 is 19 %"}),
        "total": Invoice.total,
        "balance_applied": Invoice.balance_applied,
        "amount_due": Invoice.amount_due,
        "credited": Invoice.credited,
        "period": Computed(_period("{period_start}", "{period_end}"), _PERIOD),
        "seller": Computed("{seller}", _PARTY),
        "buyer": Computed("{buyer}", _PARTY),
        "issued_at": Invoice.issued_at,
        "voided_at": Invoice.voided_at,
        "version": Invoice.version,
        "created_at": Invoice.created_at,
        "updated_at": Invoice.updated_at,
        "links": Computed(
            f"json_build_object('self', {_STORE}'/invoices/' || {{id}},"
            f" 'file', case when {{number}} is not null then {_STORE}'/invoices/' || {{id}} || '/file' end,"
            f" 'payment', {_STORE}'/payments/' || {{payment_id}},"
            f" 'subscription', {_STORE}'/subscriptions/' || {{subscription_id}},"
            f" 'credit_notes', {_STORE}'/invoices/' || {{id}} || '/credit-notes')",
            links_schema("self", "credit_notes", nullable=("file", "payment", "subscription")),
        ),
    },
    includes={
        "user": One(users, {User.id: Invoice.user_id}),
        "credit_notes": Many(credit_notes, {CreditNote.store_id: Invoice.store_id, CreditNote.invoice_id: Invoice.id}),
    },
    filters={
        "status": Equal(Invoice.status, INVOICE_STATUSES),
        "user_id": Equal(Invoice.user_id),
        "subscription_id": Equal(Invoice.subscription_id),
        "number": Equal(Invoice.number),
        "created_at": Range(Invoice.created_at),
    },
    sorts={"created_at": Invoice.created_at},
    tags=_tags,
)

# Subscriptions with their payments and invoices, which dues/subscriptions does not know about.
subscriptions = replace(
    reads.subscriptions,
    includes={
        **reads.subscriptions.includes,
        "payments": Many(
            payments,
            {Payment.store_id: SubscriptionRow.store_id, Payment.subscription_id: SubscriptionRow.id},
        ),
        "invoices": Many(
            invoices,
            {Invoice.store_id: SubscriptionRow.store_id, Invoice.subscription_id: SubscriptionRow.id},
        ),
    },
)
