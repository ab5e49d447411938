"""Reads of payments, refunds and stored payment methods."""

from dues.accounts.models import User
from dues.accounts.reads import users
from dues.packages.models import Package
from dues.packages.reads import packages
from dues.payments.models import PAYMENT_STATUSES, REFUND_STATUSES, Payment, PaymentMethod, Refund
from dues.reads import Computed, Equal, Many, One, Range, Resource
from dues.reads.resource import Schema, Scope, links_schema

_PAYMENT = "'/v1/stores/' || {store_id} || '/payments/' || "
NEXT_ACTION: Schema = {
    "type": ["object", "null"],
    "description": "what the payer has to do while the status is `requires_action`",
    "properties": {
        "type": {"type": "string"},
        "method": {"type": "string"},
        "href": {"type": "string", "format": "uri-reference"},
        "client_secret": {"type": "string", "description": "for the script of the store's own gateway"},
        "publishable_key": {"type": "string"},
    },
}
_DISPUTE: Schema = {
    "type": ["object", "null"],
    "description": "set if the payer's bank has taken money back; if it is `won`, the store got the money back",
    "properties": {
        "status": {"type": "string", "enum": ["open", "won", "lost"]},
        "amount": {"type": "integer"},
        "reason": {"type": "string"},
        "opened_at": {"type": "string", "format": "date-time"},
        "closed_at": {"type": ["string", "null"], "format": "date-time"},
    },
}


def _tags(scope: Scope) -> tuple[str, ...]:
    """The tags of a payment and of what may be included: its payer and its package."""
    store_id, user_id = scope.get("store_id"), scope.get("user_id")
    store = (f"store:{store_id}:packages", f"store:{store_id}:customers") if store_id else ("packages",)
    return (f"user:{user_id}" if user_id else f"store:{store_id}:payments", *store)


refunds = Resource(
    "Refund",
    Refund,
    fields={
        "id": Refund.id,
        "store_id": Refund.store_id,
        "payment_id": Refund.payment_id,
        "amount": Refund.amount,
        "currency": Refund.currency,
        "reason": Refund.reason,
        "status": Computed("{status}", {"type": "string", "enum": list(REFUND_STATUSES)}),
        "settled_at": Refund.settled_at,
        "returned_at": Refund.returned_at,
        "version": Refund.version,
        "created_at": Refund.created_at,
        "updated_at": Refund.updated_at,
        "links": Computed(
            f"json_build_object('self', {_PAYMENT}{{payment_id}} || '/refunds/' || {{id}},"
            " 'job', '/v1/jobs/' || {job_id},"
            f" 'receipt', case when {{status}} = 'succeeded' then {_PAYMENT}{{payment_id}} || '/refunds/' || {{id}}"
            " || '/receipt' end)",
            links_schema("self", nullable=("job", "receipt")),
        ),
    },
    filters={
        "status": Equal(Refund.status, REFUND_STATUSES),
        "created_at": Range(Refund.created_at),
        "settled_at": Range(Refund.settled_at),
    },
    sorts={"created_at": Refund.created_at, "settled_at": Refund.settled_at},
    # Excludes refunds of payments that the caller may not see. `user_id` is null for the store's staff, who see all.
    within=(
        "exists (select 1 from payments p where p.store_id = %(store_id)s and p.id = %(payment_id)s"
        " and (%(user_id)s::uuid is null or p.user_id = %(user_id)s::uuid))"
    ),
    tags=lambda scope: (f"store:{scope['store_id']}:payments",),
)

payments = Resource(
    "Payment",
    Payment,
    fields={
        "id": Payment.id,
        "store_id": Payment.store_id,
        "user_id": Payment.user_id,
        "package_id": Payment.package_id,
        "subscription_id": Payment.subscription_id,
        "payment_method_id": Payment.payment_method_id,
        "amount": Payment.amount,
        "currency": Payment.currency,
        "status": Computed("{status}", {"type": "string", "enum": list(PAYMENT_STATUSES)}),
        "description": Payment.description,
        "failure_code": Payment.failure_code,
        "refunded_amount": Payment.refunded_amount,
        "paid_at": Payment.paid_at,
        "next_action": Computed("{next_action}", NEXT_ACTION),
        "dispute": Computed("{dispute}", _DISPUTE),
        "version": Payment.version,
        "created_at": Payment.created_at,
        "updated_at": Payment.updated_at,
        "links": Computed(
            f"json_build_object('self', {_PAYMENT}{{id}}, 'job', '/v1/jobs/' || {{job_id}},"
            f" 'confirmation', '/v1/jobs/' || {{confirmation_job_id}}, 'refunds', {_PAYMENT}{{id}} || '/refunds',"
            f" 'receipt', case when {{confirmation_job_id}} is not null then {_PAYMENT}{{id}} || '/receipt' end)",
            links_schema("self", "refunds", nullable=("job", "confirmation", "receipt")),
        ),
    },
    includes={
        "user": One(users, {User.id: Payment.user_id}),
        "package": One(packages, {Package.store_id: Payment.store_id, Package.id: Payment.package_id}),
        "refunds": Many(refunds, {Refund.store_id: Payment.store_id, Refund.payment_id: Payment.id}),
    },
    filters={
        "status": Equal(Payment.status, PAYMENT_STATUSES),
        "currency": Equal(Payment.currency),
        "user_id": Equal(Payment.user_id),
        "subscription_id": Equal(Payment.subscription_id),
        "package_id": Equal(Payment.package_id),
        "amount": Range(Payment.amount),
        "created_at": Range(Payment.created_at),
        "paid_at": Range(Payment.paid_at),
    },
    sorts={
        "created_at": Payment.created_at,
        "paid_at": Payment.paid_at,
        "amount": Payment.amount,
        "id": Payment.id,
    },
    tags=_tags,
)

# Dues never sees a card's number. `only_store` in the scope is the store that the caller's token is restricted to, or
# null.
payment_methods = Resource(
    "PaymentMethod",
    PaymentMethod,
    fields={
        "id": PaymentMethod.id,
        "store_id": Computed(
            "{store_id}",
            {
                "type": ["string", "null"],
                "format": "uuid",
                "description": "the only store in which it is valid; null: every store where the sandbox charges",
            },
        ),
        "type": Computed("{type}", {"type": "string", "enum": ["card"]}),
        "brand": PaymentMethod.brand,
        "last4": PaymentMethod.last4,
        "exp_month": PaymentMethod.exp_month,
        "exp_year": PaymentMethod.exp_year,
        "is_default": PaymentMethod.is_default,
        "version": PaymentMethod.version,
        "created_at": PaymentMethod.created_at,
        "updated_at": PaymentMethod.updated_at,
        "links": Computed("json_build_object('self', '/v1/me/payment-methods/' || {id})", links_schema("self")),
    },
    sorts={"created_at": PaymentMethod.created_at},
    where=(
        "{deleted_at} is null"
        " and (%(only_store)s::uuid is null or {store_id} is null or {store_id} = %(only_store)s::uuid)"
    ),
    tags=lambda scope: (f"user:{scope['user_id']}",),
)
