"""The cost of changing the package in the middle of a period: the unused share of what was charged is credited, and the
rest of the period is charged at the new price.

Shares are based on the actual length of the period, and each line is rounded once, half away from zero. Members are
never credited more than they paid: the credit is a share of what was charged for the remaining time, limited to what
was not refunded.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dues.subscriptions.terms import Terms

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """A span of time that was charged: `charged` minor units from `start` to `end`, of which `refunded` were
    refunded."""

    start: datetime
    end: datetime | None
    charged: int
    refunded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proration:
    """The result, in minor units: `credit` for the time until `credit_end`, and `debit` for the time from `start` to
    `end` (None for a package bought once). `restarts`: the new package's period begins at `start`."""

    credit: int
    debit: int
    start: datetime
    credit_end: datetime | None
    end: datetime | None
    restarts: bool

    @property
    def total(self) -> int:
        return self.debit - self.credit


def share(amount: int, part: timedelta, whole: timedelta) -> int:
    """`amount` times part / whole, rounded half away from zero."""
    numerator, denominator = abs(amount) * (part // _TICK), whole // _TICK
    rounded = (2 * numerator + denominator) // (2 * denominator)
    return rounded if amount >= 0 else -rounded


def unused(covered: Covered | None, at: datetime) -> int:
    """How much of a charged span of time to credit if it ends early, at `at`, in minor units."""
    if covered is None or covered.end is None or at >= covered.end:
        return 0
    part = share(covered.charged, covered.end - max(at, covered.start), covered.end - covered.start)
    return max(0, min(part, covered.charged - covered.refunded))


def prorate(
    old: Terms,
    new: Terms,
    *,
    period: tuple[datetime, datetime | None],
    covered: Covered | None,
    timezone: str,
    at: datetime,
) -> Proration:
    """The cost of a change from `old` to `new` at the moment `at` of the current `period`. `covered` is what was
    charged for the time at that moment."""
    credit, credit_end = unused(covered, at), covered.end if covered else None
    start, end = period
    if end is not None and new.has_same_period(old):
        return Proration(
            credit=credit,
            debit=share(new.amount, end - at, end - start),
            start=at,
            credit_end=credit_end,
            end=end,
            restarts=False,
        )
    new_end = new.period(at, timezone, 0)[1] if new.is_recurring else None
    return Proration(credit=credit, debit=new.amount, start=at, credit_end=credit_end, end=new_end, restarts=True)
