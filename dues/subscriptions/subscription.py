"""A subscription as a value: one row of the table, independent of the database."""

from datetime import datetime
from fractions import Fraction
from math import floor
from typing import Literal, get_args
from uuid import UUID

import msgspec

from dues.subscriptions.calendar import Interval
from dues.subscriptions.terms import Terms

Status = Literal["incomplete", "trialing", "active", "past_due", "paused", "canceled", "expired"]
STATUSES: tuple[Status, ...] = get_args(Status)
# A member has at most one subscription with such a status at a store.
LIVE: tuple[Status, ...] = ("trialing", "active", "past_due", "paused")

# What a bill is for: the first charge, the next period, a change of package, or resuming after a pause.
BillKind = Literal["create", "renewal", "change", "resume"]
# trying: a payment is under way; waiting: for the payer to act; declined: to be tried again; over: no more tries.
BillState = Literal["trying", "waiting", "declined", "over"]


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """An amount owed: an invoice that is not final. The dunning schedule counts from `due_at`, when it was first due.
    `tried_at` is when the latest try was due, and `declined_at` is when we learned that it had failed. `amount` is what
    is charged, in minor units; `manual_tries` counts the tries that the payer made."""

    invoice_id: UUID
    kind: BillKind
    due_at: datetime
    tried_at: datetime
    amount: int
    state: BillState = "trying"
    declined_at: datetime | None = None
    failure_code: str | None = None
    manual_tries: int = 0

    @property
    def is_in_flight(self) -> bool:
        return self.state in ("trying", "waiting")


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A change of package that is agreed on but not in effect yet. It takes effect at the period's end, or once it is
    paid; in the latter case as of `at`, and with `restarts` in a new period that begins then."""

    when: Literal["period_end", "payment"]
    package_id: UUID
    amount: int
    currency: str
    interval: Interval
    interval_count: int
    at: datetime | None = None
    restarts: bool = False

    @property
    def terms(self) -> Terms:
        return Terms(
            package_id=self.package_id,
            amount=self.amount,
            currency=self.currency,
            interval=self.interval,
            interval_count=self.interval_count,
        )


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    """`period_number` counts the periods from the anchor, starting at 0. During a trial the current period is the
    trial; before the subscription begins there is none. `test` is that of the store. `reminded_for` is the period end
    that the member was last reminded of.

    `uses_default_method`: without a method of its own, it is charged to the member's default. This is false for
    imported subscriptions until the member has chosen a method.
    """

    store_id: UUID
    id: UUID
    user_id: UUID
    status: Status
    package_id: UUID
    amount: int
    currency: str
    interval: Interval
    interval_count: int
    anchor_at: datetime
    timezone: str
    created_at: datetime
    updated_at: datetime
    test: bool = False
    trial_days: int = 0
    trial_refused: bool = False
    trial_start: datetime | None = None
    trial_end: datetime | None = None
    period_number: int = 0
    current_period_start: datetime | None = None
    current_period_end: datetime | None = None
    cancel_at_period_end: bool = False
    cancel_reason: str | None = None
    cancel_comment: str | None = None
    ended_at: datetime | None = None
    pending: Pending | None = None
    pause_at: datetime | None = None
    resumes_at: datetime | None = None
    payment_method_id: UUID | None = None
    latest_payment_id: UUID | None = None
    bill: Bill | None = None
    has_access: bool = False
    access_until: datetime | None = None
    reminded_for: datetime | None = None
    next_action_at: datetime | None = None
    next_charge_at: datetime | None = None
    next_charge_amount: int | None = None
    uses_default_method: bool = True
    version: int = 1

    @property
    def terms(self) -> Terms:
        return Terms(
            package_id=self.package_id,
            amount=self.amount,
            currency=self.currency,
            interval=self.interval,
            interval_count=self.interval_count,
        )

    @property
    def mrr(self) -> int:
        """Monthly revenue in minor units, rounded half away from zero; 0 while nothing is charged."""
        monthly = self.terms.monthly() if self.status in ("active", "past_due") else None
        return floor(monthly + Fraction(1, 2)) if monthly else 0

    @property
    def committed_mrr(self) -> int:
        """The same, but 0 if the subscription is set to end."""
        return 0 if self.cancel_at_period_end else self.mrr

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def is_over(self) -> bool:
        return self.status in ("canceled", "expired")
