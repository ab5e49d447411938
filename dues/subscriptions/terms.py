"""What was bought: a package's price and period, frozen when they were agreed on."""

from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from uuid import UUID

from dues.subscriptions.calendar import Interval, boundary

_WEEKS_A_YEAR = 52
_MONTHS_A_YEAR = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """`amount` minor units of `currency` for every `interval_count` intervals. A package bought `once` has no
    periods."""

    package_id: UUID
    amount: int
    currency: str
    interval: Interval
    interval_count: int = 1

    @property
    def is_recurring(self) -> bool:
        return self.interval != "once"

    def has_same_period(self, other: "Terms") -> bool:
        return (self.interval, self.interval_count) == (other.interval, other.interval_count)

    def period(self, anchor: datetime, timezone: str, number: int) -> tuple[datetime, datetime]:
        """The start and the end of period `number`, counted from 0 at the anchor."""
        start, end = (boundary(anchor, timezone, self.interval, (number + i) * self.interval_count) for i in (0, 1))
        return start, end

    def monthly(self) -> Fraction | None:
        """The exact amount per month; None for a package bought once."""
        match self.interval:
            case "week":
                return Fraction(self.amount * _WEEKS_A_YEAR, _MONTHS_A_YEAR * self.interval_count)
            case "month":
                return Fraction(self.amount, self.interval_count)
            case "year":
                return Fraction(self.amount, _MONTHS_A_YEAR * self.interval_count)
        return None

    def is_dearer_than(self, other: "Terms") -> bool:
        """Whether it costs more per month. A package bought once costs more than any that recurs."""
        mine, theirs = self.monthly(), other.monthly()
        if mine is None or theirs is None:
            return mine is None
        return mine > theirs
