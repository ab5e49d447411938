"""The dates of a subscription that began elsewhere, as our own subscriptions have them: periods counted from an anchor.

A file says when the current period ends. Where that is a whole number of periods after the anchor, or after the
beginning, periods are counted from there on. Else they are counted from the end itself, as the period before the first:
the next ones end so many whole intervals later, at the same day and time.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from dues.imports.rows import Refusal, SubscriptionRow
from dues.subscriptions.calendar import boundary
from dues.subscriptions.terms import Terms

_DAYS_A_WEEK, _MONTHS_A_YEAR = 7, 12
# No membership is older, and none is paid for longer: what is further away was mistyped, and counting from there would
# leave the calendar.
_MOST_YEARS = 100
_FURTHEST = timedelta(days=365.25 * _MOST_YEARS)
_TIMES = ("started_at", "anchor_at", "current_period_end", "trial_end", "ended_at")


def number_of_period(terms: Terms, anchor: datetime, timezone: str, end: datetime) -> int | None:
    """Of the period that ends at `end`, counted from 0 at the anchor; None where none does."""
    zone = ZoneInfo(timezone)
    since, until = anchor.astimezone(zone), end.astimezone(zone)
    if terms.interval == "week":
        passed, length = round((until.replace(tzinfo=None) - since.replace(tzinfo=None)).days / _DAYS_A_WEEK), 1
    else:
        passed = (until.year - since.year) * _MONTHS_A_YEAR + until.month - since.month
        length = _MONTHS_A_YEAR if terms.interval == "year" else 1
    periods, rest = divmod(passed, length * terms.interval_count)
    if rest or periods < 1:
        return None
    ends = boundary(anchor, timezone, terms.interval, periods * terms.interval_count)
    return periods - 1 if ends == end else None


def place(terms: Terms, anchor: datetime, timezone: str, end: datetime) -> tuple[datetime, int, datetime]:
    """The anchor, the number and the start of the period that ends at `end`: counted from `anchor` where that is
    possible, else from the end."""
    number = number_of_period(terms, anchor, timezone, end)
    if number is not None:
        return anchor, number, boundary(anchor, timezone, terms.interval, number * terms.interval_count)
    return end, -1, boundary(end, timezone, terms.interval, -terms.interval_count)


def time_of(value: object) -> datetime | None:
    """A field of a row; None where it is not set."""
    return value if isinstance(value, datetime) else None


def wrong_dates(row: SubscriptionRow, terms: Terms, now: datetime, timezone: str) -> Iterator[Refusal]:
    """What is wrong with the dates of a row."""
    for name in _TIMES:
        moment = time_of(getattr(row, name))
        if moment and abs(moment - now) > _FURTHEST:
            yield _wrong(name, f"is more than {_MOST_YEARS} years away")
    if row.started_at > now:
        yield _wrong("started_at", "is yet to come: let them subscribe then")
    if row.status == "canceled":
        yield from _wrong_ending(row, now)
    elif row.ended_at:
        yield Refusal("conflict", "/ended_at: goes with the status canceled", "/ended_at")
    elif row.status == "active" and not terms.is_recurring:
        if row.current_period_end or row.cancel_at_period_end:
            detail = "/current_period_end: the package is sold once, and has no period that ends"
            yield Refusal("conflict", detail, "/current_period_end")
    else:
        yield from _wrong_next_charge(row, now)
    yield from _wrong_order(row, now)
    anchor, end = time_of(row.anchor_at), time_of(row.current_period_end)
    is_counted = row.status == "active" and terms.is_recurring
    if anchor and end and is_counted and number_of_period(terms, anchor, timezone, end) is None:
        yield _wrong("current_period_end", "is not a whole number of periods after anchor_at")


def _wrong_ending(row: SubscriptionRow, now: datetime) -> Iterator[Refusal]:
    ended_at = time_of(row.ended_at)
    if ended_at is None:
        yield Refusal("required", "/ended_at: is required for what is canceled", "/ended_at")
    elif not row.started_at <= ended_at <= now:
        yield _wrong("ended_at", "must be between started_at and now")


def _wrong_next_charge(row: SubscriptionRow, now: datetime) -> Iterator[Refusal]:
    name = "trial_end" if row.status == "trialing" else "current_period_end"
    end = time_of(getattr(row, name))
    if end is None:
        yield Refusal("required", f"/{name}: is required for what is {row.status}", f"/{name}")
    elif end <= now:
        yield _wrong(name, "has passed: it would be charged now, and nothing that is imported is")


def _wrong_order(row: SubscriptionRow, now: datetime) -> Iterator[Refusal]:
    for name in ("current_period_end", "trial_end"):
        end = time_of(getattr(row, name))
        if end and end <= row.started_at:
            yield _wrong(name, "must be later than started_at")
    trial_end = time_of(row.trial_end)
    if trial_end and row.status == "active" and trial_end > now:
        yield _wrong("trial_end", "is yet to come, and the status is active")


def _wrong(name: str, detail: str) -> Refusal:
    return Refusal("range", f"/{name}: {detail}", f"/{name}")
