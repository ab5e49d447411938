"""Charged periods: a row for each billed period, and for the rest of a period after a change of package.

A renewal writes the row together with its bill. There is one row for each start, so a period is billed only once.
"""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from dues.postgres import fetch_row, run_later
from dues.subscriptions.proration import Covered
from dues.subscriptions.subscription import Subscription


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """The columns of `subscription_periods`. `amount` is what is charged for the time itself, before any credit, in
    minor units."""

    store_id: UUID
    subscription_id: UUID
    starts_at: datetime
    ends_at: datetime | None
    package_id: UUID
    amount: int
    currency: str
    invoice_id: UUID
    created_at: datetime
    payment_id: UUID | None = None


_WRITE = """
    insert into subscription_periods
    select * from jsonb_populate_recordset(null::subscription_periods, %(rows)s::jsonb)
"""
# A second change at the same moment replaces the first.
_REPLACE = f"""{_WRITE}
    on conflict (store_id, subscription_id, starts_at) do update set ends_at = excluded.ends_at,
        package_id = excluded.package_id, amount = excluded.amount, invoice_id = excluded.invoice_id,
        payment_id = excluded.payment_id, created_at = excluded.created_at
"""
_PAY = """
    update subscription_periods set starts_at = %(starts_at)s, ends_at = %(ends_at)s, payment_id = %(payment_id)s
    where store_id = %(store_id)s and subscription_id = %(id)s and invoice_id = %(invoice_id)s
"""
_DROP = """
    delete from subscription_periods
    where store_id = %(store_id)s and subscription_id = %(id)s and invoice_id = %(invoice_id)s
"""
_COVERED = """
    select p.starts_at, p.ends_at, p.amount, i.credited, i.id, i.payment_id from subscription_periods p
    join invoices i on i.store_id = p.store_id and i.id = p.invoice_id and i.status <> 'draft'
    where p.store_id = %(store_id)s and p.subscription_id = %(id)s and p.starts_at <= %(at)s
    order by p.starts_at desc limit 1
"""


class Paid(msgspec.Struct, frozen=True):
    """A span of time that was charged, the invoice for it, and the payment, if any was due."""

    covered: Covered
    invoice_id: UUID
    payment_id: UUID | None


def bill(periods: Sequence[Period]) -> None:
    """Record billed periods. Part of the caller's transaction(), which fails if a period was billed before."""
    run_later(_WRITE, {"rows": msgspec.json.encode(periods).decode()})


def replace(period: Period) -> None:
    """Record that the rest of a period is covered by another invoice. Part of the caller's transaction()."""
    run_later(_REPLACE, {"rows": msgspec.json.encode([period]).decode()})


def pay(subscription: Subscription, invoice_id: UUID, payment_id: UUID | None) -> None:
    """Record that a billed period is paid, and align it with the subscription's present period. Part of the caller's
    transaction()."""
    values = {
        "store_id": subscription.store_id,
        "id": subscription.id,
        "invoice_id": invoice_id,
        "payment_id": payment_id,
        "starts_at": subscription.current_period_start,
        "ends_at": subscription.current_period_end,
    }
    run_later(_PAY, values)


def drop(subscription: Subscription, invoice_id: UUID) -> None:
    """Remove the period of an invoice that will not be paid. Part of the caller's transaction()."""
    run_later(_DROP, {"store_id": subscription.store_id, "id": subscription.id, "invoice_id": invoice_id})


def covering(subscription: Subscription, at: datetime) -> Paid | None:
    """What was charged for the time that includes `at`; None if nothing was."""
    if subscription.status == "trialing" or subscription.current_period_start is None:
        return None
    row = fetch_row(_COVERED, {"store_id": subscription.store_id, "id": subscription.id, "at": at}, hot=True)
    if row is None:
        return None
    start, end, amount, credited, invoice_id, payment_id = row
    return Paid(Covered(start=start, end=end, charged=amount, refunded=credited), invoice_id, payment_id)
