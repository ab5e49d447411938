"""A subscription as it stands: one row of the table, without the database."""

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
# A member has at most one of these at a store.
LIVE: tuple[Status, ...] = ("trialing", "active", "past_due", "paused")

# What a bill is for: the first charge, the next period, a change of package, the return from a pause.
BillKind = Literal["create", "renewal", "change", "resume"]
# trying: its payment is under way; waiting: for its payer to act; declined: to be tried again; over: no more tries.
BillState = Literal["trying", "waiting", "declined", "over"]


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be paid: an invoice that is not final. All that follows from a decline counts from `due_at`, when it
    was first due; `tried_at` is when its last try was due, `declined_at` when that was heard to have failed. `amount`
    is what is asked for; `manual_tries` are those of the payer."""

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
    """Another package that is agreed on and does not hold yet: from the period's end on, or once it is paid, and then
    as if from `at` on; `restarts`: with a period that begins there."""

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
    """`period_number` counts the current period from 0 at the anchor; in a trial the period is the trial, and before it
    has begun there is none. `test` is the store's. `reminded_for` is the end that its member was reminded of last.
    `uses_default_method`: whether it is charged to its member's default where it has no method of its own. One that was
    imported is not, until its member has said what it is charged to."""

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
        """What it brings in a month, in minor units, rounded half away from zero; nothing while nothing is charged."""
        monthly = self.terms.monthly() if self.status in ("active", "past_due") else None
        return floor(monthly + Fraction(1, 2)) if monthly else 0

    @property
    def committed_mrr(self) -> int:
        """The same, and nothing where it is set to end."""
        return 0 if self.cancel_at_period_end else self.mrr

    @property
    def is_live(self) -> bool:
        return self.status in LIVE

    @property
    def is_over(self) -> bool:
        return self.status in ("canceled", "expired")
