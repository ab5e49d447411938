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
    pending = subscription.pending.terms if subscription.pending and subscription.pending.when == "period_end" else None
    amount = (pending or subscription.terms).amount
    match subscription.status:
        case "incomplete" if subscription.bill is None:
            return (subscription.anchor_at, amount) if not subscription.trial_days else None
        case "trialing" | "active" if subscription.cancel_at_period_end or subscription.current_period_end is None:
            return None
        case "trialing" | "active":
            at = subscription.resumes_at if subscription.pause_at else subscription.current_period_end
            return (at, amount) if at else None
        case "past_due" if subscription.bill and (retry := _retry(subscription.bill)):
            return retry, subscription.bill.amount
        case "paused" if subscription.resumes_at:
            return subscription.resumes_at, amount
    return None


def _actions(subscription: Subscription) -> Iterator[tuple[datetime, Action]]:
    # Listed in the order in which they are carried out if they are due at the same moment.
    match subscription.status:
        case "incomplete" if subscription.bill is None:
            yield subscription.anchor_at, "begin"
        case "trialing" | "active":
            yield from _in_period(subscription)
        case "past_due":
            yield from _in_arrears(subscription)
        case "paused" if subscription.resumes_at and subscription.bill is None:
            yield subscription.resumes_at, "resume"
    if subscription.bill and subscription.bill.state == "waiting":
        yield subscription.bill.tried_at + PATIENCE, "lapse"
    elif subscription.bill and subscription.bill.state == "declined" and subscription.status == "incomplete":
        yield subscription.bill.due_at + PATIENCE, "lapse"


def _in_period(subscription: Subscription) -> Iterator[tuple[datetime, Action]]:
    # The next period does not begin while this one is unpaid.
    if subscription.current_period_end is None or (subscription.bill and subscription.bill.kind == "renewal"):
        return
    yield subscription.current_period_end, "end_period"
    reminder = reminder_at(subscription)
    if reminder and subscription.reminded_for != subscription.current_period_end:
        yield reminder, "remind"


def reminder_at(subscription: Subscription) -> datetime | None:
    """When the member is to be reminded of the next charge; None if no reminder is needed."""
    end, terms = subscription.current_period_end, subscription.terms
    if end is None or subscription.cancel_at_period_end or subscription.pause_at or terms.amount == 0:
        return None
    if subscription.status == "trialing" and subscription.trial_start:
        length = end - subscription.trial_start
        return end - 3 * _DAY if length >= 3 * _DAY else end - _DAY if length >= _DAY else None
    is_yearly = terms.interval == "year" or (terms.interval == "month" and terms.interval_count >= _MONTHS_A_YEAR)
    return end - _YEARLY_NOTICE if is_yearly and subscription.status == "active" else None


def _in_arrears(subscription: Subscription) -> Iterator[tuple[datetime, Action]]:
    bill = subscription.bill
    if bill is None:
        return
    retry = _retry(bill)
    if retry:
        yield retry, "retry"
    if subscription.has_access and subscription.access_until:
        yield subscription.access_until, "end_access"
    # While a payment is under way its result is unknown, so nothing is given up.
    if retry is None and bill.state == "declined":
        yield bill.due_at + DEADLINE, "give_up"


def _retry(bill: Bill) -> datetime | None:
    heard_at = bill.declined_at or bill.tried_at
    return next_retry(bill.due_at, heard_at, bill.failure_code) if bill.state == "declined" else None
