"""Reads of a store's customers: who they are, what they have paid and bought, and what has happened."""

from uuid import UUID

from sqlalchemy import select

from dues.accounts.users import shows_users
from dues.billing.customer_search import CustomerSearch
from dues.billing.models import Credit
from dues.clock import sql_rfc3339
from dues.postgres import db
from dues.reads import Computed, Resource
from dues.reads.resource import Schema, Scope, links_schema
from dues.subscriptions.models import Customer

# How many entries a timeline shows, newest first. Its links lead to the rest.
TIMELINE_ENTRIES = 200

_BY_CURRENCY: Schema = {
    "type": "object",
    "additionalProperties": {"type": "integer"},
    "description": "minor units by currency",
}
_ACCESS: Schema = {
    "type": "object",
    "properties": {
        "active": {"type": "boolean"},
        "until": {"type": ["string", "null"], "format": "date-time"},
        "package_id": {"type": ["string", "null"], "format": "uuid"},
    },
}
_TIME: Schema = {"type": ["string", "null"], "format": "date-time"}
_ENTRY: Schema = {
    "type": "object",
    "properties": {
        "at": {"type": "string", "format": "date-time"},
        "type": {"type": "string", "enum": ["payment", "refund", "subscription", "invoice", "credit_note", "mail"]},
        "what": {"type": "string", "description": "a status, or what was changed"},
        "amount": {"type": ["integer", "null"]},
        "currency": {"type": ["string", "null"]},
        "href": {"type": "string", "format": "uri-reference"},
    },
}
_PAID = "status in ('succeeded', 'partially_refunded', 'refunded')"
_MINE = "store_id = {store_id} and user_id = {user_id}"
_STORE = "'/v1/stores/' || {store_id} || "


def _tags(scope: Scope) -> tuple[str, ...]:
    store_id, user_id = scope["store_id"], scope.get("user_id")
    if user_id:
        return (f"user:{user_id}", f"store:{store_id}:customers")
    return tuple(f"store:{store_id}:{part}" for part in ("customers", "payments", "subscriptions", "invoices"))


@shows_users
def customer_tags(user_id: UUID) -> list[str]:
    """The tags of all stores that have this user as a customer."""
    stores = db.session.scalars(select(Customer.store_id).where(Customer.user_id == user_id))
    return [f"store:{store_id}:customers" for store_id in stores]


customers = Resource(
    "Customer",
    Customer,
    fields={
        "store_id": Customer.store_id,
        "user_id": Customer.user_id,
        "name": Computed("(select coalesce({name}, u.name) from users u where u.id = {user_id})", {"type": "string"}),
        "email": Computed(
            "(select coalesce({email}, u.email) from users u where u.id = {user_id})", {"type": "string"}
        ),
        "balance": Computed(
            "(select coalesce(json_object_agg(b.currency, b.amount), '{{}}') from ("
            f"select currency, sum(amount)::bigint as amount from credits where {_MINE} group by 1) b)",
            _BY_CURRENCY,
        ),
        "total_paid": Computed(
            "(select coalesce(json_object_agg(b.currency, b.amount), '{{}}') from ("
            "select currency, sum(amount - refunded_amount)::bigint as amount from payments"
            f" where {_MINE} and {_PAID} group by 1) b)",
            _BY_CURRENCY,
        ),
        "first_payment_at": Computed(
            f"(select {sql_rfc3339('min(paid_at)')} from payments where {_MINE} and {_PAID})", _TIME
        ),
        "last_payment_at": Computed(
            f"(select {sql_rfc3339('max(paid_at)')} from payments where {_MINE} and {_PAID})", _TIME
        ),
        "access": Computed(
            "(select coalesce((select json_build_object('active', true, 'until',"
            f" {sql_rfc3339('s.access_until')}, 'package_id', s.package_id) from subscriptions s"
            " where s.store_id = {store_id} and s.user_id = {user_id} and s.has_access limit 1),"
            " json_build_object('active', false, 'until', null, 'package_id', null)))",
            _ACCESS,
        ),
        "version": Customer.version,
        "created_at": Customer.created_at,
        "updated_at": Customer.updated_at,
        "links": Computed(
            "json_build_object("
            + ", ".join(
                f"'{name}', {_STORE}'/{path}' || {{user_id}}{end}"
                for name, path, end in (
                    ("self", "customers/", ""),
                    ("balance", "customers/", " || '/balance'"),
                    ("timeline", "customers/", " || '/timeline'"),
                    ("payments", "payments?user_id=", ""),
                    ("subscriptions", "subscriptions?user_id=", ""),
                    ("invoices", "invoices?user_id=", ""),
                )
            )
            + ")",
            links_schema("self", "balance", "timeline", "payments", "subscriptions", "invoices"),
        ),
    },
    sorts={"created_at": Customer.created_at},
    search=CustomerSearch(),
    key="user_id",
    tags=_tags,
)

balance_entries = Resource(
    "BalanceEntry",
    Credit,
    fields={
        "id": Credit.id,
        "amount": Computed("{amount}", {"type": "integer", "description": "money given, or (negative) used"}),
        "currency": Credit.currency,
        "kind": Computed("{kind}", {"type": "string", "enum": ["invoice", "credit_note"]}),
        "invoice_id": Credit.invoice_id,
        "credit_note_id": Credit.credit_note_id,
        "created_at": Credit.created_at,
    },
    sorts={"created_at": Credit.created_at},
    within=("exists (select 1 from customers c where c.store_id = %(store_id)s and c.user_id = %(user_id)s)"),
    tags=_tags,
)


def _entries(kind: str, what: str, amount: str, currency: str, path: str, source: str, at: str = "x.created_at") -> str:
    return (
        f"(select {at} as at, '{kind}' as type, {what} as what, {amount} as amount, {currency}::text as currency,"
        f" {_STORE}{path} as href, x.id from {source}"
        f" where x.store_id = {{store_id}} and {{user_id}} = x.user_id order by at desc limit {TIMELINE_ENTRIES})"
    )


_TIMELINE = " union all ".join(
    (
        _entries("payment", "x.status", "x.amount", "x.currency", "'/payments/' || x.id", "payments x"),
        _entries(
            "refund",
            "x.status",
            "-x.amount",
            "x.currency",
            "'/payments/' || x.payment_id || '/refunds/' || x.id",
            "(select r.*, p.user_id from refunds r"
            " join payments p on p.store_id = r.store_id and p.id = r.payment_id) x",
        ),
        _entries(
            "subscription",
            "x.kind",
            "null::bigint",
            "null",
            "'/subscriptions/' || x.subscription_id",
            "(select c.*, s.user_id from subscription_changes c"
            " join subscriptions s on s.store_id = c.store_id and s.id = c.subscription_id) x",
        ),
        _entries(
            "invoice",
            "x.status",
            "x.total",
            "x.currency",
            "'/invoices/' || x.id",
            "invoices x",
        ),
        _entries(
            "credit_note",
            "x.status",
            "-x.total",
            "x.currency",
            "'/invoices/' || x.invoice_id || '/credit-notes/' || x.id",
            "credit_notes x",
        ),
        _entries(
            "mail",
            "x.status",
            "null::bigint",
            "null",
            "'/documents/' || x.id",
            "(select d.store_id, d.user_id, d.id, v.status, v.created_at from document_deliveries v"
            " join documents d on d.store_id = v.store_id and d.id = v.document_id) x",
        ),
    )
)
timelines = Resource(
    "CustomerTimeline",
    Customer,
    fields={
        "store_id": Customer.store_id,
        "user_id": Customer.user_id,
        "data": Computed(
            f"(select coalesce(json_agg(json_build_object('at', {sql_rfc3339('e.at')}, 'type', e.type, 'what', e.what,"
            " 'amount', e.amount, 'currency', e.currency, 'href', e.href) order by e.at desc, e.id desc), '[]')"
            f" from (select * from ({_TIMELINE}) a order by at desc, id desc limit {TIMELINE_ENTRIES}) e)",
            {"type": "array", "items": _ENTRY},
        ),
    },
    key="user_id",
    tags=lambda scope: (
        f"user:{scope['user_id']}",
        *(
            f"store:{scope['store_id']}:{part}"
            for part in ("customers", "payments", "subscriptions", "invoices", "documents")
        ),
    ),
)
