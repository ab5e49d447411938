"""A membership as the rules say it, day by day and without a database: what tests compare Dues with.

Prices are by the month. A card is good or declined. The store cancels after seven days of dunning, which is also how
long access lasts.
"""

from calendar import monthrange
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

RETRIES = [timedelta(days=days) for days in (1, 3, 5, 7)]
MOST_MANUAL_TRIES = 5


def month_later(anchor: datetime, months: int) -> datetime:
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, monthrange(year, month + 1)[1]))


@dataclass
class Membership:
    """One member's, of whom `charges` lists (moment, amount)."""

    charges: list[tuple[datetime, int]] = field(default_factory=list)
    status: str = "none"
    price: int = 0
    pending: int | None = None
    card_is_good: bool = True
    anchor: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    periods: int = 0
    is_to_end: bool = False
    is_to_pause: bool = False
    # Of what is owed: whether for the return from a pause, how often its payer has tried, and the tries to come.
    is_for_return: bool = False
    tries: int = 0
    retries: list[datetime] = field(default_factory=list)

    @property
    def end(self) -> datetime:
        return month_later(self.anchor, self.periods)

    def wait_until(self, moment: datetime) -> None:
        """All that is due until then happens."""
        while due := self._due():
            if due > moment:
                return
            if self.status == "active":
                self._turn(due)
            else:
                self._retry(due)

    def _due(self) -> datetime | None:
        if self.status == "active":
            return self.end
        return self.retries[0] if self.status == "past_due" else None

    def _turn(self, due: datetime) -> None:
        if self.is_to_end:
            self.status = "canceled"
            return
        self.price, self.pending = self.pending or self.price, None
        if self.is_to_pause:
            self.status, self.is_to_pause = "paused", False
            return
        self.periods += 1
        self._charge(due, is_for_return=False)

    def _charge(self, at: datetime, *, is_for_return: bool) -> None:
        if self.card_is_good:
            self.charges.append((at, self.price))
            self.status = "active"
            if is_for_return:
                self.anchor, self.periods = at, 1
            return
        self.status, self.is_for_return = "past_due", is_for_return
        self.tries, self.retries = 0, [at + retry for retry in RETRIES]

    def _retry(self, due: datetime) -> None:
        self.retries.pop(0)
        if self.card_is_good:
            self._recover(due)
        elif not self.retries:
            self.status = "canceled"

    def _recover(self, at: datetime) -> None:
        self.charges.append((at, self.price))
        self.status = "active"
        if self.is_for_return:
            self.anchor, self.periods = at, 1

    # What its member does; each says whether it is allowed.

    def subscribe(self, at: datetime, price: int) -> bool:
        if self.status not in ("none", "canceled") or not self.card_is_good:
            return False
        self.status, self.price, self.pending, self.anchor, self.periods = "active", price, None, at, 1
        self.is_to_end = self.is_to_pause = False
        self.charges.append((at, price))
        return True

    def card(self, at: datetime, *, is_good: bool) -> bool:
        self.card_is_good = is_good
        if self.status == "past_due" and self.tries < MOST_MANUAL_TRIES:
            self.tries += 1
            if is_good:
                self._recover(at)
        return True

    def cancel(self) -> bool:
        if self.status in ("paused", "past_due"):
            self.status = "canceled"
        elif self.status == "active":
            self.is_to_end, self.is_to_pause, self.pending = True, False, None
        else:
            return False
        return True

    def keep(self) -> bool:
        if self.status != "active" or not self.is_to_end:
            return False
        self.is_to_end = False
        return True

    def pause(self) -> bool:
        if self.status == "paused":
            return True
        if self.status != "active" or self.is_to_end:
            return False
        self.is_to_pause = True
        return True

    def go_on(self, at: datetime) -> bool:
        if self.status == "paused":
            self._charge(at, is_for_return=True)
        elif self.status == "active" and self.is_to_pause:
            self.is_to_pause = False
        else:
            return False
        return True

    def change(self, price: int) -> bool:
        if price == self.price and self.status != "none":
            self.pending = None
            return True
        if self.status == "paused":
            self.price = price
        elif self.status == "active" and not self.is_to_end:
            self.pending = price
        else:
            return False
        return True

    def end_now(self) -> bool:
        if self.status not in ("active", "past_due", "paused"):
            return False
        self.status = "canceled"
        return True
