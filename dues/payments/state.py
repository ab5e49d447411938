"""The only place where the status of a payment or a refund changes.

    pending -> processing -> succeeded | failed | requires_action | unknown
    requires_action -> processing | failed
    unknown -> succeeded | failed
    succeeded -> partially_refunded -> refunded;  succeeded -> refunded

    refund: pending -> succeeded | failed;  succeeded -> failed, if the payer's bank sends it back

`unknown` is a charge whose gateway did not answer: only reconciliation leads out of it, and never to another charge. If
a charge that had failed turns out to have been made, a move with `is_late` records that, and the money is refunded.
Each change is one statement, which checks the present status and appends to `payment_events`; changes that others
should know of emit an event (dues/events.py). Times are those of the store (dues/clock.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import ujson

from dues.clock import store_now
from dues.errors import InvalidTransition, NotFound
from dues.events import EventType, emit
from dues.ids import new_id
from dues.payments.models import Payment, PaymentStatus, Refund, RefundStatus
from dues.payments.reads import payments, refunds
from dues.postgres import db, fetch_row, run_later, unit_of_work
from dues.reads.tags import touch

SOURCES: dict[PaymentStatus, tuple[PaymentStatus, ...]] = {
    "pending": (),
    "processing": ("pending", "requires_action"),
    "succeeded": ("processing", "unknown"),
    "failed": ("processing", "requires_action", "unknown"),
    "requires_action": ("processing",),
    "unknown": ("processing",),
    # A further partial refund does not change the status, but is recorded as a change too.
    "partially_refunded": ("succeeded", "partially_refunded"),
    "refunded": ("succeeded", "partially_refunded"),
}

# The event of each status. The beginning of a charge has none.
_EVENTS: dict[PaymentStatus, EventType] = {
    "succeeded": "payment.succeeded",
    "failed": "payment.failed",
    "requires_action": "payment.requires_action",
    "unknown": "payment.unknown",
    "partially_refunded": "payment.partially_refunded",
    "refunded": "payment.refunded",
}

_MOVE = """
    with held as (
        select status from payments where store_id = %(store_id)s and id = %(payment_id)s for update),
    moved as (
        update payments p set status = %(to)s, version = p.version + 1, updated_at = %(at)s,
            next_action = %(next_action)s::jsonb,
            gateway_ref = coalesce(%(gateway_ref)s, p.gateway_ref),
            failure_code = case when %(to)s <> 'succeeded' then coalesce(%(failure_code)s, p.failure_code) end,
            refunded_amount = p.refunded_amount + %(refunded)s,
            paid_at = coalesce(p.paid_at, case when %(to)s = 'succeeded' then %(at)s::timestamptz end),
            job_id = coalesce(%(job_id)s::uuid, p.job_id),
            confirmation_job_id = coalesce(%(confirmation_job_id)s::uuid, p.confirmation_job_id)
        from held
        where p.store_id = %(store_id)s and p.id = %(payment_id)s and held.status = any(%(sources)s)
        returning p.user_id, p.subscription_id, p.invoice_id, p.package_id, p.amount, p.currency, p.description,
            p.gateway, p.failure_code),
    logged as (
        insert into payment_events(store_id, payment_id, id, from_status, to_status, reason, created_at)
        select %(store_id)s, %(payment_id)s, %(event_id)s, held.status, %(to)s, %(reason)s, %(at)s from held, moved)
    select held.status, moved.* from held left join moved on true
"""
_OPEN = """
    with opened as (
        insert into payments(store_id, id, user_id, package_id, amount, currency, status, description,
            payment_method, payment_method_id, off_session, gateway, gateway_account_id, gateway_customer, job_id,
            subscription_id, invoice_id, created_at, updated_at)
        values (%(store_id)s, %(id)s, %(user_id)s, %(package_id)s, %(amount)s, %(currency)s, 'pending',
            %(description)s, %(payment_method)s, %(payment_method_id)s, %(off_session)s, %(gateway)s,
            %(gateway_account_id)s, %(gateway_customer)s, %(job_id)s,
            %(subscription_id)s, %(invoice_id)s, %(created_at)s, %(created_at)s)
        returning store_id, id, status)
    insert into payment_events(store_id, payment_id, id, to_status, reason, created_at)
    select store_id, id, %(event_id)s, status, 'asked for', %(created_at)s from opened returning id
"""
_SETTLE_REFUND = """
    update refunds set status = %(to)s, version = version + 1, updated_at = %(at)s, settled_at = %(at)s,
        gateway_ref = %(gateway_ref)s, failure_code = %(failure_code)s
    where store_id = %(store_id)s and id = %(refund_id)s and status = 'pending' returning amount, reason
"""
_RETURN_REFUND = """
    with returned as (
        update refunds set status = 'failed', version = version + 1, updated_at = %(at)s, returned_at = %(at)s,
            failure_code = %(failure_code)s
        where store_id = %(store_id)s and id = %(refund_id)s and status = 'succeeded' returning amount, payment_id),
    moved as (
        update payments p set refunded_amount = p.refunded_amount - r.amount, version = p.version + 1,
            updated_at = %(at)s,
            status = case when p.refunded_amount = r.amount then 'succeeded' else 'partially_refunded' end
        from returned r, payments before
        where p.store_id = %(store_id)s and p.id = r.payment_id and before.store_id = p.store_id and before.id = p.id
        returning p.id, before.status as from_status, p.status as to_status)
    insert into payment_events(store_id, payment_id, id, from_status, to_status, reason, created_at)
    select %(store_id)s, id, %(event_id)s, from_status, to_status, %(reason)s, %(at)s from moved returning to_status
"""


@dataclass(frozen=True)
class OpenPayment:
    """A new payment: columns of `payments`."""

    store_id: UUID
    id: UUID
    user_id: UUID
    package_id: UUID | None
    amount: int
    currency: str
    description: str
    payment_method: str
    payment_method_id: UUID | None
    gateway: str
    gateway_customer: str | None
    job_id: UUID
    created_at: datetime
    gateway_account_id: UUID | None = None
    subscription_id: UUID | None = None
    invoice_id: UUID | None = None
    off_session: bool = False


@dataclass(frozen=True, slots=True)
class Settled:
    """A payment whose status has changed, at a moment of the store's time. Hooks receive those that have succeeded,
    failed, or wait for their payer. `is_late`: it succeeded after it had failed, so nobody expects the money any
    more."""

    store_id: UUID
    id: UUID
    status: PaymentStatus
    at: datetime
    user_id: UUID
    subscription_id: UUID | None
    invoice_id: UUID | None
    package_id: UUID | None
    amount: int
    currency: str
    description: str
    gateway: str
    failure_code: str | None
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class Refunded:
    """A refund of `payment` (locked) that has succeeded or failed. `is_returned`: it failed after it had succeeded, so
    that the store has the money again."""

    payment: Payment
    id: UUID
    status: RefundStatus
    at: datetime
    amount: int
    reason: str
    is_returned: bool = False


# How much of a locked payment may be refunded at most, in minor units; None for no limit.
Limit = Callable[[Payment], int | None]

_SETTLING = ("succeeded", "failed", "requires_action")
_when_settled: list[Callable[[Settled], None]] = []
_when_refunded: list[Callable[[Refunded], None]] = []
_when_refund_opened: list[Callable[[Payment, Refund], None]] = []
_limits: list[Limit] = []


def when_settled(hook: Callable[[Settled], None]) -> Callable[[Settled], None]:
    """Have `hook` called when a payment succeeds, fails or requires an action, in the same transaction()."""
    _when_settled.append(hook)
    return hook


def when_refunded(hook: Callable[[Refunded], None]) -> Callable[[Refunded], None]:
    """Have `hook` called when a refund has succeeded or failed, in the same transaction()."""
    _when_refunded.append(hook)
    return hook


def when_refund_opened(hook: Callable[[Payment, Refund], None]) -> Callable[[Payment, Refund], None]:
    """Have `hook` called when a refund was requested, in the same transaction()."""
    _when_refund_opened.append(hook)
    return hook


def limits_refunds(limit: Limit) -> Limit:
    """Have refunds of a payment limited to what `limit` returns."""
    _limits.append(limit)
    return limit


def refund_limit(payment: Payment) -> int:
    """How much of a locked payment may be refunded, in minor units, before what was refunded already is subtracted."""
    found = [most for limit in _limits if (most := limit(payment)) is not None]
    return min([payment.amount, *found])


def open_payment(payment: OpenPayment) -> None:
    """Insert a new payment, which is `pending`. Part of the caller's transaction(). It uses SQL because this is the
    most frequent write, and the ORM's unit of work would take a sixth of its time."""
    run_later(_OPEN, vars(payment) | {"event_id": new_id()})
    emit(payment.store_id, "payment.created", payments, {"store_id": payment.store_id, "id": payment.id})
    touch(f"store:{payment.store_id}:customers")
    touch_payment(payment.store_id, payment.user_id)


def move(
    store_id: UUID,
    payment_id: UUID,
    to: PaymentStatus,
    reason: str,
    *,
    gateway_ref: str | None = None,
    failure_code: str | None = None,
    next_action: dict[str, Any] | None = None,
    refunded: int = 0,
    job_id: UUID | None = None,
    confirmation_job_id: UUID | None = None,
    is_late: bool = False,
) -> None:
    """Change a payment's status, and the columns that go with it. Nothing else changes a status. Part of the caller's
    transaction().

    `refunded` is added to what was refunded before. `next_action` is cleared unless given; other columns that are not
    given stay as they are. `is_late` is for a charge that had `failed` and has succeeded after all. Raises:
    InvalidTransition if the payment's present status does not lead to `to`; NotFound.
    """
    unit_of_work()
    at = store_now(store_id)
    row = fetch_row(
        _MOVE,
        {
            "store_id": store_id,
            "payment_id": payment_id,
            "event_id": new_id(),
            "to": to,
            "sources": ["failed"] if is_late else list(SOURCES[to]),
            "reason": reason,
            "at": at,
            "gateway_ref": gateway_ref,
            "failure_code": failure_code,
            "next_action": ujson.dumps(next_action, escape_forward_slashes=False) if next_action else None,
            "refunded": refunded,
            "job_id": job_id,
            "confirmation_job_id": confirmation_job_id,
        },
        hot=True,
    )
    if row is None:
        raise NotFound("there is no such payment")
    status, *columns = row
    if columns[0] is None:
        raise InvalidTransition(f"a payment that is {status} cannot become {to}")
    _announce(Settled(store_id, payment_id, to, at, *(*columns, is_late)))


def _announce(payment: Settled) -> None:
    if event_type := _EVENTS.get(payment.status):
        emit(payment.store_id, event_type, payments, {"store_id": payment.store_id, "id": payment.id})
    touch_payment(payment.store_id, payment.user_id)
    if payment.status in _SETTLING:
        for hook in _when_settled:
            hook(payment)


def open_refund(payment: Payment, refund: Refund) -> None:
    """Insert a new refund of `payment`, which is `pending`. Part of the caller's transaction()."""
    refund.status = "pending"
    refund.created_at = refund.updated_at = store_now(payment.store_id)
    db.session.add(refund)
    _emit_refund(payment, refund.id, "refund.created")
    touch_payment(payment.store_id, payment.user_id)
    for hook in _when_refund_opened:
        hook(payment, refund)


def settle_refund(
    payment: Payment,
    refund_id: UUID,
    to: RefundStatus,
    *,
    gateway_ref: str | None = None,
    failure_code: str | None = None,
) -> None:
    """`pending -> succeeded | failed`. Part of the caller's transaction(). Raises: InvalidTransition."""
    unit_of_work()
    values: dict[str, Any] = {
        "store_id": payment.store_id,
        "refund_id": refund_id,
        "to": to,
        "at": store_now(payment.store_id),
        "gateway_ref": gateway_ref,
        "failure_code": failure_code,
    }
    row = fetch_row(_SETTLE_REFUND, values)
    if row is None:
        raise InvalidTransition(f"the refund is not pending and cannot become {to}")
    _emit_refund(payment, refund_id, "refund.succeeded" if to == "succeeded" else "refund.failed")
    touch_payment(payment.store_id, payment.user_id)
    for hook in _when_refunded:
        hook(Refunded(payment, refund_id, to, values["at"], *row))


def return_refund(payment: Payment, refund: Refund, *, failure_code: str | None) -> None:
    """`succeeded -> failed`: a refund of `payment` has come back. Both are locked. Part of the caller's transaction().
    Raises: InvalidTransition."""
    unit_of_work()
    at = store_now(payment.store_id)
    values: dict[str, Any] = {
        "store_id": payment.store_id,
        "refund_id": refund.id,
        "event_id": new_id(),
        "reason": f"refund {refund.id} was sent back",
        "failure_code": failure_code,
        "at": at,
    }
    if fetch_row(_RETURN_REFUND, values) is None:
        raise InvalidTransition("only a refund that was made can come back")
    _emit_refund(payment, refund.id, "refund.failed")
    touch(f"store:{payment.store_id}:customers")
    touch_payment(payment.store_id, payment.user_id)
    for hook in _when_refunded:
        hook(Refunded(payment, refund.id, "failed", at, refund.amount, refund.reason, is_returned=True))


def _emit_refund(payment: Payment, refund_id: UUID, event_type: EventType) -> None:
    scope = {"store_id": payment.store_id, "payment_id": payment.id, "user_id": None, "id": refund_id}
    emit(payment.store_id, event_type, refunds, scope)


def touch_payment(store_id: UUID, user_id: UUID) -> None:
    """Invalidate cached answers that show the payment or a refund of it."""
    touch(f"store:{store_id}:payments", f"user:{user_id}")
