"""What a change of package costs in the middle of a period: the unused share of what was charged is given back, and the
rest of the period is charged at the new price.

Shares are of the real length of the period, and each line is rounded once, half away from zero. Nobody is given back
what they did not pay: the credit is a share of what was charged for the time that is left, and at most what of that was
not refunded.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from dues.subscriptions.terms import Terms

_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Covered:
    """A stretch of time that was charged: `charged` minor units from `start` to `end`, some of which was `refunded`."""

    start: datetime
    end: datetime | None
    charged: int
    refunded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Proration:
    """What a change comes to: `credit` is given back for the time until `credit_end`, `debit` is charged from `start`
    to `end`, which is None for what is bought once. `restarts`: the new package's period begins at `start`."""

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
    """What is given back of a stretch of time that ends at `at` instead of its end."""
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
    """A change from `old` to `new` at a moment of the running `period`, of which the rest is `covered`."""
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
