"""Subscriptions as they stand in one situation or another."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from dues.subscriptions import machine
from dues.subscriptions.calendar import Interval
from dues.subscriptions.subscription import Bill, BillKind, BillState, Pending, Subscription
from dues.subscriptions.terms import Terms
from tests.subscriptions.test_calendar import at

GOLD, SILVER = UUID(int=1), UUID(int=2)
START = at("2024-01-31")


def terms(amount: int = 5000, interval: Interval = "month", count: int = 1, package: UUID = GOLD) -> Terms:
    return Terms(package_id=package, amount=amount, currency="EUR", interval=interval, interval_count=count)


def bill(kind: BillKind, due: datetime = START, state: BillState = "trying", **fields: Any) -> Bill:
    return Bill(
        invoice_id=UUID(int=9),
        kind=kind,
        due_at=due,
        tried_at=fields.pop("tried_at", due),
        amount=5000,
        state=state,
        **fields,
    )


def new(kind: Terms | None = None, *, start: datetime = START, days: int = 0, zone: str = "UTC") -> Subscription:
    return machine.create(
        store_id=UUID(int=3),
        subscription_id=UUID(int=4),
        user_id=UUID(int=5),
        terms=kind or terms(),
        timezone=zone,
        created_at=start,
        start_at=start,
        trial_days=days,
    )


def pending(when: Any = "period_end", kind: Terms | None = None, **fields: Any) -> Pending:
    found = kind or terms(9000, package=SILVER)
    return Pending(
        when=when,
        package_id=found.package_id,
        amount=found.amount,
        currency=found.currency,
        interval=found.interval,
        interval_count=found.interval_count,
        **fields,
    )


def active(kind: Terms | None = None, **fields: Any) -> Subscription:
    """One whose first period is paid."""
    one = new(kind, **fields)
    return machine.paid(machine.owing(one, bill("create", one.anchor_at)), one.anchor_at)


def trialing(days: int = 10, kind: Terms | None = None, **fields: Any) -> Subscription:
    return machine.begin_trial(new(kind, days=days, **fields))


def renewing(one: Subscription | None = None) -> Subscription:
    """One whose second period has begun, and is being paid."""
    turned = machine.end_period(one or active())
    assert turned.current_period_start
    return machine.owing(turned, bill("renewal", turned.current_period_start))


def in_arrears(code: str | None = "card_declined", grace_days: int = 7) -> Subscription:
    one = renewing()
    assert one.bill
    return machine.declined(one, code, one.bill.due_at, grace_days)


def paused() -> Subscription:
    return machine.end_period(machine.to_be_paused(active(), None))


def changing() -> Subscription:
    """One that waits for the payment of a change."""
    moment = START + timedelta(days=3)
    one = machine.to_change(active(), pending("payment", at=moment))
    return machine.owing(one, bill("change", moment))


def resuming(moment: datetime) -> Subscription:
    return machine.owing(paused(), bill("resume", moment))


SITUATIONS: dict[str, Subscription] = {
    "incomplete": machine.owing(new(), bill("create")),
    "trialing": trialing(),
    "active": active(),
    "active, canceled": machine.canceled_at_end(active(), START, None, None),
    "active, pausing": machine.to_be_paused(active(), None),
    "active, renewing": renewing(),
    "active, changing": changing(),
    "past_due": in_arrears(),
    "paused": paused(),
    "paused, resuming": resuming(at("2024-07-10T09:00")),
    "canceled": machine.over(active(), START),
    "expired": machine.over(new(), START),
    "once": active(terms(interval="once")),
}
