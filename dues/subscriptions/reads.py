"""Reads of subscriptions. dues/billing adds the payments and invoices that can be included."""

from dues.accounts.models import User
from dues.accounts.reads import users
from dues.packages.models import Package
from dues.packages.reads import packages
from dues.reads import Computed, Equal, One, Range, Resource
from dues.reads.resource import Schema, Scope, links_schema
from dues.subscriptions.calendar import INTERVALS
from dues.subscriptions.models import SubscriptionRow as Row
from dues.subscriptions.subscription import STATUSES

_STORE = "'/v1/stores/' || {store_id} || "
_JOB = "(select p.job_id from payments p where p.store_id = {store_id} and p.id = {latest_payment_id})"
_UUID_OR_NULL: Schema = {"type": ["string", "null"], "format": "uuid"}


def _tags(scope: Scope) -> tuple[str, ...]:
    """The tags of a subscription and of what may be included: its member, its package, payments and invoices."""
    store_id, user_id = scope.get("store_id"), scope.get("user_id")
    store = (f"store:{store_id}:packages", f"store:{store_id}:customers") if store_id else ("packages",)
    if user_id:
        return (f"user:{user_id}", *store)
    return (f"store:{store_id}:subscriptions", *store, f"store:{store_id}:payments", f"store:{store_id}:invoices")


subscriptions = Resource(
    "Subscription",
    Row,
    fields={
        "id": Row.id,
        "store_id": Row.store_id,
        "user_id": Row.user_id,
        "package_id": Row.package_id,
        "status": Computed("{status}", {"type": "string", "enum": list(STATUSES)}),
        "amount": Row.amount,
        "currency": Row.currency,
        "interval": Computed("{interval}", {"type": "string", "enum": list(INTERVALS)}),
        "interval_count": Row.interval_count,
        "anchor_at": Row.anchor_at,
        "timezone": Row.timezone,
        "trial_start": Row.trial_start,
        "trial_end": Row.trial_end,
        # The package has a trial, but this member had used theirs before.
        "trial_refused": Row.trial_refused,
        "current_period_start": Row.current_period_start,
        "current_period_end": Row.current_period_end,
        "cancel_at_period_end": Row.cancel_at_period_end,
        "cancel_reason": Row.cancel_reason,
        "cancel_comment": Row.cancel_comment,
        "ended_at": Row.ended_at,
        "pending_package_id": Computed("({pending} ->> 'package_id')::uuid", _UUID_OR_NULL),
        "pause_at": Row.pause_at,
        "resumes_at": Row.resumes_at,
        "payment_method_id": Row.payment_method_id,
        "has_access": Row.has_access,
        "access_until": Row.access_until,
        "next_charge_at": Row.next_charge_at,
        "next_charge_amount": Row.next_charge_amount,
        "latest_payment_id": Row.latest_payment_id,
        "version": Row.version,
        "created_at": Row.created_at,
        "updated_at": Row.updated_at,
        "links": Computed(
            f"json_build_object('self', {_STORE}'/subscriptions/' || {{id}}, 'job', '/v1/jobs/' || {_JOB},"
            f" 'payments', {_STORE}'/payments?subscription_id=' || {{id}},"
            f" 'invoices', {_STORE}'/invoices?subscription_id=' || {{id}})",
            links_schema("self", "payments", "invoices", nullable=("job",)),
        ),
    },
    includes={
        "user": One(users, {User.id: Row.user_id}),
        "package": One(packages, {Package.store_id: Row.store_id, Package.id: Row.package_id}),
    },
    filters={
        "status": Equal(Row.status, STATUSES),
        "package_id": Equal(Row.package_id),
        "user_id": Equal(Row.user_id),
        "current_period_end": Range(Row.current_period_end),
        "created_at": Range(Row.created_at),
    },
    sorts={"created_at": Row.created_at, "current_period_end": Row.period_ends_at},
    tags=_tags,
)
