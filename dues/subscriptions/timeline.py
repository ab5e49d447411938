"""What is due next for a subscription, and when. It follows from the subscription's state, so nothing has to be
scheduled."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

from dues.subscriptions.dunning import DEADLINE, PATIENCE, next_retry
from dues.subscriptions.subscription import Bill, Subscription

# begin: start a subscription that was to start later; remind: of the end of a trial or of a yearly period; end_period:
# end the current period, and begin the next; retry, end_access, give_up: after a declined charge; resume: after a
# pause; lapse: the payer has not finished in time.
Action = Literal["begin", "remind", "end_period", "retry", "end_access", "give_up", "resume", "lapse"]

_DAY = timedelta(days=1)
# A yearly renewal comes long after it was agreed on.
_YEARLY_NOTICE = timedelta(days=30)
_MONTHS_A_YEAR = 12


def next_action(subscription: Subscription) -> tuple[datetime, Action] | None:
    """The first action that is due and when; if several are due at the same moment, in the order of `_actions()`."""
    return min(_actions(subscription), key=lambda found: found[0], default=None)


def next_charge(subscription: Subscription) -> tuple[datetime, int] | None:
    """When the member will be charged next, and how much before the balance is applied, if nothing changes."""
    one = subscription
    pending = one.pending.terms if one.pending and one.pending.when == "period_end" else None
    amount = (pending or one.terms).amount
    match one.status:
        case "incomplete" if one.bill is None:
            return (one.anchor_at, amount) if not one.trial_days else None
        case "trialing" | "active" if one.cancel_at_period_end or one.current_period_end is None:
            return None
        case "trialing" | "active":
            at = one.resumes_at if one.pause_at else one.current_period_end
            return (at, amount) if at else None
        case "past_due" if one.bill and (retry := _retry(one.bill)):
            return retry, one.bill.amount
        case "paused" if one.resumes_at:
            return one.resumes_at, amount
    return None


def _actions(one: Subscription) -> Iterator[tuple[datetime, Action]]:
    # Listed in the order in which they are carried out if they are due at the same moment.
    match one.status:
        case "incomplete" if one.bill is None:
            yield one.anchor_at, "begin"
        case "trialing" | "active":
            yield from _in_period(one)
        case "past_due":
            yield from _in_arrears(one)
        case "paused" if one.resumes_at and one.bill is None:
            yield one.resumes_at, "resume"
    if one.bill and one.bill.state == "waiting":
        yield one.bill.tried_at + PATIENCE, "lapse"
    elif one.bill and one.bill.state == "declined" and one.status == "incomplete":
        yield one.bill.due_at + PATIENCE, "lapse"


def _in_period(one: Subscription) -> Iterator[tuple[datetime, Action]]:
    # The next period does not begin while this one is unpaid.
    if one.current_period_end is None or (one.bill and one.bill.kind == "renewal"):
        return
    yield one.current_period_end, "end_period"
    reminder = reminder_at(one)
    if reminder and one.reminded_for != one.current_period_end:
        yield reminder, "remind"


def reminder_at(one: Subscription) -> datetime | None:
    """When the member is to be reminded of the next charge; None if no reminder is needed."""
    end, terms = one.current_period_end, one.terms
    if end is None or one.cancel_at_period_end or one.pause_at or terms.amount == 0:
        return None
    if one.status == "trialing" and one.trial_start:
        length = end - one.trial_start
        return end - 3 * _DAY if length >= 3 * _DAY else end - _DAY if length >= _DAY else None
    is_yearly = terms.interval == "year" or (terms.interval == "month" and terms.interval_count >= _MONTHS_A_YEAR)
    return end - _YEARLY_NOTICE if is_yearly and one.status == "active" else None


def _in_arrears(one: Subscription) -> Iterator[tuple[datetime, Action]]:
    bill = one.bill
    if bill is None:
        return
    retry = _retry(bill)
    if retry:
        yield retry, "retry"
    if one.has_access and one.access_until:
        yield one.access_until, "end_access"
    # While a payment is under way its result is unknown, so nothing is given up.
    if retry is None and bill.state == "declined":
        yield bill.due_at + DEADLINE, "give_up"


def _retry(bill: Bill) -> datetime | None:
    heard_at = bill.declined_at or bill.tried_at
    return next_retry(bill.due_at, heard_at, bill.failure_code) if bill.state == "declined" else None
