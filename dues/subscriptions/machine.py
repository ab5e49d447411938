"""The state machine of a subscription. Each function takes a subscription and returns the changed one, or refuses.

    incomplete -> trialing | active | expired
    trialing   -> active | past_due | canceled
    active    <-> paused, active -> past_due | canceled
    paused     -> past_due | canceled
    past_due   -> active | canceled

Nothing here reads the clock, calls a gateway or writes a row. Whatever has to be paid is a bill that the caller opens;
its result is passed in with `paid()` or `declined()`. Refusals are InvalidTransition, 409.
"""

from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from dues.errors import InvalidTransition
from dues.subscriptions.calendar import add_days
from dues.subscriptions.dunning import grace_end
from dues.subscriptions.subscription import Bill, Pending, Status, Subscription
from dues.subscriptions.terms import Terms


def create(
    *,
    store_id: UUID,
    subscription_id: UUID,
    user_id: UUID,
    terms: Terms,
    timezone: str,
    created_at: datetime,
    start_at: datetime,
    trial_days: int = 0,
    trial_refused: bool = False,
    payment_method_id: UUID | None = None,
    test: bool = False,
) -> Subscription:
    """A new subscription, `incomplete`. It begins at `start_at`: with `begin_trial()` if it has a trial, otherwise with
    a bill. `trial_refused`: the package has a trial, but the member has used theirs already."""
    return Subscription(
        store_id=store_id,
        id=subscription_id,
        user_id=user_id,
        status="incomplete",
        package_id=terms.package_id,
        amount=terms.amount,
        currency=terms.currency,
        interval=terms.interval,
        interval_count=terms.interval_count,
        anchor_at=start_at,
        timezone=timezone,
        created_at=created_at,
        updated_at=created_at,
        trial_days=trial_days,
        trial_refused=trial_refused,
        payment_method_id=payment_method_id,
        test=test,
    )


def begin_trial(subscription: Subscription) -> Subscription:
    """`incomplete -> trialing`, for `trial_days` calendar days."""
    _require(subscription, "begin a trial", "incomplete")
    return _with_trial(
        replace(subscription, status="trialing", trial_start=subscription.anchor_at), subscription.trial_days
    )


def _with_trial(subscription: Subscription, days: int) -> Subscription:
    assert subscription.trial_start
    end = add_days(subscription.trial_start, subscription.timezone, days)
    return replace(
        subscription,
        trial_days=days,
        trial_end=end,
        current_period_start=subscription.trial_start,
        current_period_end=end,
        has_access=True,
        access_until=end,
    )


def end_period(subscription: Subscription) -> Subscription:
    """End the current period: `trialing | active -> active | paused | canceled`. The subscription ends or pauses if
    that was requested. Otherwise the next period begins, with the package agreed on for it; the caller opens a bill for
    it."""
    _require(subscription, "be renewed", "trialing", "active")
    end = subscription.current_period_end
    if end is None:
        raise InvalidTransition("what is bought once is not renewed")
    if subscription.cancel_at_period_end:
        return over(subscription, end)
    subscription = without_change(subscription, "payment")
    if subscription.pause_at:
        return replace(_agreed(subscription), status="paused", pause_at=None, has_access=False, access_until=end)
    changed = _agreed(subscription)
    if subscription.status == "trialing" or not changed.terms.has_same_period(subscription.terms):
        return _restarted(changed, end)
    return _in_period(changed, subscription.period_number + 1)


def _agreed(subscription: Subscription) -> Subscription:
    """The subscription with the change that was scheduled for the period's end, if any."""
    return _with_terms(subscription, subscription.pending.terms) if subscription.pending else subscription


def _with_terms(subscription: Subscription, terms: Terms) -> Subscription:
    return replace(
        subscription,
        package_id=terms.package_id,
        amount=terms.amount,
        currency=terms.currency,
        interval=terms.interval,
        interval_count=terms.interval_count,
        pending=None,
    )


def _restarted(subscription: Subscription, at: datetime) -> Subscription:
    """Active, in a first period that begins at `at`, which becomes the anchor."""
    return _in_period(replace(subscription, anchor_at=at), 0)


def _in_period(subscription: Subscription, number: int) -> Subscription:
    start: datetime = subscription.anchor_at
    end: datetime | None = None
    if subscription.terms.is_recurring:
        start, end = subscription.terms.period(subscription.anchor_at, subscription.timezone, number)
    return replace(
        subscription,
        status="active",
        period_number=number,
        current_period_start=start,
        current_period_end=end,
        # A pause begins at the period's end, which may have moved.
        pause_at=end if subscription.pause_at else None,
        has_access=True,
        access_until=end,
    )


def owing(subscription: Subscription, bill: Bill) -> Subscription:
    """With an open bill. Raises: InvalidTransition if there is one already."""
    if subscription.bill is not None:
        raise InvalidTransition("a payment of this subscription is open already", code="payment_in_flight")
    return replace(subscription, bill=bill)


def tried_again(subscription: Subscription, at: datetime, amount: int, *, manually: bool) -> Subscription:
    """Another try to collect the open bill has begun; `amount` is what is charged this time. Raises:
    InvalidTransition."""
    bill = _bill(subscription)
    if bill.is_in_flight:
        raise InvalidTransition("a payment of this subscription is under way", code="payment_in_flight")
    tries = bill.manual_tries + manually
    return replace(subscription, bill=replace(bill, state="trying", tried_at=at, amount=amount, manual_tries=tries))


def waiting(subscription: Subscription) -> Subscription:
    """The open bill waits for its payer to act."""
    return replace(subscription, bill=replace(_bill(subscription), state="waiting"))


def paid(subscription: Subscription, now: datetime) -> Subscription:
    """The open bill is paid, and what it was for takes effect. It counts as paid at the time of the try, however late
    the result is known; or `now`, if the payer had to act."""
    bill = _bill(subscription)
    at = now if bill.state == "waiting" else bill.tried_at
    free = replace(subscription, bill=None)
    match bill.kind:
        case "create":
            _require(subscription, "become active", "incomplete")
            return _restarted(free, at)
        case "resume":
            _require(subscription, "resume", "paused", "past_due")
            return _restarted(replace(free, resumes_at=None), at)
        case "change":
            _require(subscription, "change its package", "trialing", "active")
            return _changed(free)
    _require(subscription, "be renewed", "active", "past_due")
    if subscription.status == "past_due" and (subscription.access_until is None or at > subscription.access_until):
        # A member who pays after losing access gets a whole new period for the full price.
        return _restarted(free, at)
    return replace(free, status="active", has_access=True, access_until=subscription.current_period_end)


def _changed(subscription: Subscription) -> Subscription:
    """With the new package, now that the change is paid."""
    pending = subscription.pending
    if pending is None or pending.at is None:
        raise InvalidTransition("no change of package is open")
    changed = _with_terms(subscription, pending.terms)
    return _restarted(changed, pending.at) if pending.restarts else changed


def declined(subscription: Subscription, failure_code: str | None, now: datetime, grace_days: int) -> Subscription:
    """The open bill's payment has failed. A change of package is dropped. A renewal, or a resumption after a pause,
    puts the subscription in arrears from the time it was due. If the member canceled while the renewal was being
    charged, the subscription is over instead of being charged again; the caller voids the bill."""
    bill = _bill(subscription)
    if bill.kind == "change":
        return without_change(replace(subscription, bill=None), "payment")
    if bill.kind == "renewal" and subscription.cancel_at_period_end:
        return over(subscription, now)
    subscription = replace(
        subscription, bill=replace(bill, state="declined", failure_code=failure_code, declined_at=now)
    )
    if bill.kind == "create" or subscription.status == "past_due":
        return subscription
    if bill.kind == "resume":
        _require(subscription, "be in arrears", "paused")
        return replace(subscription, status="past_due", resumes_at=None, access_until=None)
    _require(subscription, "be in arrears", "active")
    until = grace_end(bill.due_at, grace_days)
    return replace(
        subscription, status="past_due", pause_at=None, resumes_at=None, has_access=now < until, access_until=until
    )


def without_change(subscription: Subscription, when: str = "") -> Subscription:
    """Without the pending change of package, if there is one. With `when`, only a change for that time is dropped."""
    if subscription.pending is None or (when and subscription.pending.when != when):
        return subscription
    return replace(
        subscription,
        pending=None,
        bill=None if subscription.bill and subscription.bill.kind == "change" else subscription.bill,
    )


def without_access(subscription: Subscription) -> Subscription:
    """The grace period is over: the member loses access."""
    _require(subscription, "lose access", "past_due")
    return replace(subscription, has_access=False)


def reminded(subscription: Subscription) -> Subscription:
    """The member was reminded of the end of the current period."""
    return replace(subscription, reminded_for=subscription.current_period_end)


def given_up(subscription: Subscription) -> Subscription:
    """The open bill is no longer retried automatically."""
    return replace(subscription, bill=replace(_bill(subscription), state="over"))


def over(subscription: Subscription, at: datetime) -> Subscription:
    """The subscription ends at `at`: `-> canceled`, or `-> expired` if it never began. The caller voids the open
    bill."""
    _require(subscription, "be ended", "incomplete", "trialing", "active", "past_due", "paused")
    status: Status = "expired" if subscription.status == "incomplete" else "canceled"
    return replace(
        subscription,
        status=status,
        ended_at=at,
        has_access=False,
        access_until=at if subscription.has_access else subscription.access_until,
        bill=None,
        pending=None,
        pause_at=None,
        resumes_at=None,
    )


def canceled_at_end(subscription: Subscription, at: datetime, reason: str | None, comment: str | None) -> Subscription:
    """Set to end with the current period, or ended at once if no paid period is running. Changes that were scheduled
    for the period's end are dropped."""
    _require(subscription, "be canceled", "incomplete", "trialing", "active", "past_due", "paused")
    subscription = replace(subscription, cancel_reason=reason, cancel_comment=comment)
    if subscription.status in ("incomplete", "past_due", "paused"):
        return over(subscription, at)
    if subscription.current_period_end is None:
        raise InvalidTransition("a package that is bought once has no period to end with: end it now instead")
    return replace(
        without_change(subscription, "period_end"), cancel_at_period_end=True, pause_at=None, resumes_at=None
    )


def uncanceled(subscription: Subscription) -> Subscription:
    """The cancellation is withdrawn."""
    if subscription.is_over or not subscription.cancel_at_period_end:
        raise InvalidTransition(
            f"a subscription that is {subscription.status} and not set to cancel cannot be taken back"
        )
    return replace(subscription, cancel_at_period_end=False, cancel_reason=None, cancel_comment=None)


def to_be_paused(subscription: Subscription, resumes_at: datetime | None) -> Subscription:
    """Set to pause at the end of the paid period, until `resumes_at` if given."""
    _require(subscription, "be paused", "active")
    if subscription.cancel_at_period_end:
        raise InvalidTransition("a subscription that is set to cancel cannot be paused: take that back first")
    if subscription.current_period_end is None:
        raise InvalidTransition("what is bought once cannot be paused")
    return replace(subscription, pause_at=subscription.current_period_end, resumes_at=resumes_at)


def to_resume_at(subscription: Subscription, resumes_at: datetime | None) -> Subscription:
    """A paused subscription gets another time at which it resumes (None: no set time)."""
    _require(subscription, "wait to resume", "paused")
    if subscription.bill is not None:
        raise InvalidTransition("a payment of this subscription is open already", code="payment_in_flight")
    return replace(subscription, resumes_at=resumes_at)


def not_to_be_paused(subscription: Subscription) -> Subscription:
    """The scheduled pause is withdrawn."""
    if subscription.status != "active" or subscription.pause_at is None:
        raise InvalidTransition(f"a subscription that is {subscription.status} cannot be paused")
    return replace(subscription, pause_at=None, resumes_at=None)


def require_changeable(subscription: Subscription) -> None:
    """Raises: InvalidTransition if the package cannot be changed at present."""
    _require(subscription, "change its package", "trialing", "active", "paused")
    if subscription.cancel_at_period_end:
        raise InvalidTransition("the subscription is set to cancel: take that back first")
    if subscription.bill is not None:
        raise InvalidTransition("a payment of this subscription is open", code="payment_in_flight")


def to_change(subscription: Subscription, pending: Pending) -> Subscription:
    """Another package is agreed on, replacing any change that was pending."""
    require_changeable(subscription)
    return replace(subscription, pending=pending)


def changed_freely(subscription: Subscription, terms: Terms, *, restarts_at: datetime | None = None) -> Subscription:
    """Changed to another package at once, without a payment."""
    require_changeable(subscription)
    changed = _with_terms(subscription, terms)
    return _restarted(changed, restarts_at) if restarts_at else changed


def with_trial_of(subscription: Subscription, terms: Terms, days: int) -> Subscription:
    """In a trial: changed to another package, with the trial that it would have had from the beginning."""
    _require(subscription, "change its trial", "trialing")
    return _with_trial(_with_terms(subscription, terms), days)


def _bill(subscription: Subscription) -> Bill:
    if subscription.bill is None:
        raise InvalidTransition("no payment of this subscription is open")
    return subscription.bill


def _require(subscription: Subscription, what: str, *statuses: Status) -> None:
    if subscription.status not in statuses:
        raise InvalidTransition(f"a subscription that is {subscription.status} cannot {what}")
