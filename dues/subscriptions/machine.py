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


def begin_trial(one: Subscription) -> Subscription:
    """`incomplete -> trialing`, for `trial_days` calendar days."""
    _require(one, "begin a trial", "incomplete")
    return _with_trial(replace(one, status="trialing", trial_start=one.anchor_at), one.trial_days)


def _with_trial(one: Subscription, days: int) -> Subscription:
    assert one.trial_start
    end = add_days(one.trial_start, one.timezone, days)
    return replace(
        one,
        trial_days=days,
        trial_end=end,
        current_period_start=one.trial_start,
        current_period_end=end,
        has_access=True,
        access_until=end,
    )


def end_period(one: Subscription) -> Subscription:
    """End the current period: `trialing | active -> active | paused | canceled`. The subscription ends or pauses if
    that was requested. Otherwise the next period begins, with the package agreed on for it; the caller opens a bill for
    it."""
    _require(one, "be renewed", "trialing", "active")
    end = one.current_period_end
    if end is None:
        raise InvalidTransition("what is bought once is not renewed")
    if one.cancel_at_period_end:
        return over(one, end)
    one = without_change(one, "payment")
    if one.pause_at:
        return replace(_agreed(one), status="paused", pause_at=None, has_access=False, access_until=end)
    changed = _agreed(one)
    if one.status == "trialing" or not changed.terms.has_same_period(one.terms):
        return _restarted(changed, end)
    return _in_period(changed, one.period_number + 1)


def _agreed(one: Subscription) -> Subscription:
    """The subscription with the change that was scheduled for the period's end, if any."""
    return _with_terms(one, one.pending.terms) if one.pending else one


def _with_terms(one: Subscription, terms: Terms) -> Subscription:
    return replace(
        one,
        package_id=terms.package_id,
        amount=terms.amount,
        currency=terms.currency,
        interval=terms.interval,
        interval_count=terms.interval_count,
        pending=None,
    )


def _restarted(one: Subscription, at: datetime) -> Subscription:
    """Active, in a first period that begins at `at`, which becomes the anchor."""
    return _in_period(replace(one, anchor_at=at), 0)


def _in_period(one: Subscription, number: int) -> Subscription:
    start: datetime = one.anchor_at
    end: datetime | None = None
    if one.terms.is_recurring:
        start, end = one.terms.period(one.anchor_at, one.timezone, number)
    return replace(
        one,
        status="active",
        period_number=number,
        current_period_start=start,
        current_period_end=end,
        # A pause begins at the period's end, which may have moved.
        pause_at=end if one.pause_at else None,
        has_access=True,
        access_until=end,
    )


def owing(one: Subscription, bill: Bill) -> Subscription:
    """With an open bill. Raises: InvalidTransition if there is one already."""
    if one.bill is not None:
        raise InvalidTransition("a payment of this subscription is open already", code="payment_in_flight")
    return replace(one, bill=bill)


def tried_again(one: Subscription, at: datetime, amount: int, *, manually: bool) -> Subscription:
    """Another try to collect the open bill has begun; `amount` is what is charged this time. Raises:
    InvalidTransition."""
    bill = _bill(one)
    if bill.is_in_flight:
        raise InvalidTransition("a payment of this subscription is under way", code="payment_in_flight")
    tries = bill.manual_tries + manually
    return replace(one, bill=replace(bill, state="trying", tried_at=at, amount=amount, manual_tries=tries))


def waiting(one: Subscription) -> Subscription:
    """The open bill waits for its payer to act."""
    return replace(one, bill=replace(_bill(one), state="waiting"))


def paid(one: Subscription, now: datetime) -> Subscription:
    """The open bill is paid, and what it was for takes effect. It counts as paid at the time of the try, however late
    the result is known; or `now`, if the payer had to act."""
    bill = _bill(one)
    at = now if bill.state == "waiting" else bill.tried_at
    free = replace(one, bill=None)
    match bill.kind:
        case "create":
            _require(one, "become active", "incomplete")
            return _restarted(free, at)
        case "resume":
            _require(one, "resume", "paused", "past_due")
            return _restarted(replace(free, resumes_at=None), at)
        case "change":
            _require(one, "change its package", "trialing", "active")
            return _changed(free)
    _require(one, "be renewed", "active", "past_due")
    if one.status == "past_due" and (one.access_until is None or at > one.access_until):
        # A member who pays after losing access gets a whole new period for the full price.
        return _restarted(free, at)
    return replace(free, status="active", has_access=True, access_until=one.current_period_end)


def _changed(one: Subscription) -> Subscription:
    """With the new package, now that the change is paid."""
    pending = one.pending
    if pending is None or pending.at is None:
        raise InvalidTransition("no change of package is open")
    changed = _with_terms(one, pending.terms)
    return _restarted(changed, pending.at) if pending.restarts else changed


def declined(one: Subscription, failure_code: str | None, now: datetime, grace_days: int) -> Subscription:
    """The open bill's payment has failed. A change of package is dropped. A renewal, or a resumption after a pause,
    puts the subscription in arrears from the time it was due. If the member canceled while the renewal was being
    charged, the subscription is over instead of being charged again; the caller voids the bill."""
    bill = _bill(one)
    if bill.kind == "change":
        return without_change(replace(one, bill=None), "payment")
    if bill.kind == "renewal" and one.cancel_at_period_end:
        return over(one, now)
    one = replace(one, bill=replace(bill, state="declined", failure_code=failure_code, declined_at=now))
    if bill.kind == "create" or one.status == "past_due":
        return one
    if bill.kind == "resume":
        _require(one, "be in arrears", "paused")
        return replace(one, status="past_due", resumes_at=None, access_until=None)
    _require(one, "be in arrears", "active")
    until = grace_end(bill.due_at, grace_days)
    return replace(one, status="past_due", pause_at=None, resumes_at=None, has_access=now < until, access_until=until)


def without_change(one: Subscription, when: str = "") -> Subscription:
    """Without the pending change of package, if there is one. With `when`, only a change for that time is dropped."""
    if one.pending is None or (when and one.pending.when != when):
        return one
    return replace(one, pending=None, bill=None if one.bill and one.bill.kind == "change" else one.bill)


def without_access(one: Subscription) -> Subscription:
    """The grace period is over: the member loses access."""
    _require(one, "lose access", "past_due")
    return replace(one, has_access=False)


def reminded(one: Subscription) -> Subscription:
    """The member was reminded of the end of the current period."""
    return replace(one, reminded_for=one.current_period_end)


def given_up(one: Subscription) -> Subscription:
    """The open bill is no longer retried automatically."""
    return replace(one, bill=replace(_bill(one), state="over"))


def over(one: Subscription, at: datetime) -> Subscription:
    """The subscription ends at `at`: `-> canceled`, or `-> expired` if it never began. The caller voids the open
    bill."""
    _require(one, "be ended", "incomplete", "trialing", "active", "past_due", "paused")
    status: Status = "expired" if one.status == "incomplete" else "canceled"
    return replace(
        one,
        status=status,
        ended_at=at,
        has_access=False,
        access_until=at if one.has_access else one.access_until,
        bill=None,
        pending=None,
        pause_at=None,
        resumes_at=None,
    )


def canceled_at_end(one: Subscription, at: datetime, reason: str | None, comment: str | None) -> Subscription:
    """Set to end with the current period, or ended at once if no paid period is running. Changes that were scheduled
    for the period's end are dropped."""
    _require(one, "be canceled", "incomplete", "trialing", "active", "past_due", "paused")
    one = replace(one, cancel_reason=reason, cancel_comment=comment)
    if one.status in ("incomplete", "past_due", "paused"):
        return over(one, at)
    if one.current_period_end is None:
        raise InvalidTransition("a package that is bought once has no period to end with: end it now instead")
    return replace(without_change(one, "period_end"), cancel_at_period_end=True, pause_at=None, resumes_at=None)


def uncanceled(one: Subscription) -> Subscription:
    """The cancellation is withdrawn."""
    if one.is_over or not one.cancel_at_period_end:
        raise InvalidTransition(f"a subscription that is {one.status} and not set to cancel cannot be taken back")
    return replace(one, cancel_at_period_end=False, cancel_reason=None, cancel_comment=None)


def to_be_paused(one: Subscription, resumes_at: datetime | None) -> Subscription:
    """Set to pause at the end of the paid period, until `resumes_at` if given."""
    _require(one, "be paused", "active")
    if one.cancel_at_period_end:
        raise InvalidTransition("a subscription that is set to cancel cannot be paused: take that back first")
    if one.current_period_end is None:
        raise InvalidTransition("what is bought once cannot be paused")
    return replace(one, pause_at=one.current_period_end, resumes_at=resumes_at)


def to_resume_at(one: Subscription, resumes_at: datetime | None) -> Subscription:
    """A paused subscription gets another time at which it resumes (None: no set time)."""
    _require(one, "wait to resume", "paused")
    if one.bill is not None:
        raise InvalidTransition("a payment of this subscription is open already", code="payment_in_flight")
    return replace(one, resumes_at=resumes_at)


def not_to_be_paused(one: Subscription) -> Subscription:
    """The scheduled pause is withdrawn."""
    if one.status != "active" or one.pause_at is None:
        raise InvalidTransition(f"a subscription that is {one.status} cannot be paused")
    return replace(one, pause_at=None, resumes_at=None)


def require_changeable(one: Subscription) -> None:
    """Raises: InvalidTransition if the package cannot be changed at present."""
    _require(one, "change its package", "trialing", "active", "paused")
    if one.cancel_at_period_end:
        raise InvalidTransition("the subscription is set to cancel: take that back first")
    if one.bill is not None:
        raise InvalidTransition("a payment of this subscription is open", code="payment_in_flight")


def to_change(one: Subscription, pending: Pending) -> Subscription:
    """Another package is agreed on, replacing any change that was pending."""
    require_changeable(one)
    return replace(one, pending=pending)


def changed_freely(one: Subscription, terms: Terms, *, restarts_at: datetime | None = None) -> Subscription:
    """Changed to another package at once, without a payment."""
    require_changeable(one)
    changed = _with_terms(one, terms)
    return _restarted(changed, restarts_at) if restarts_at else changed


def with_trial_of(one: Subscription, terms: Terms, days: int) -> Subscription:
    """In a trial: changed to another package, with the trial that it would have had from the beginning."""
    _require(one, "change its trial", "trialing")
    return _with_trial(_with_terms(one, terms), days)


def _bill(one: Subscription) -> Bill:
    if one.bill is None:
        raise InvalidTransition("no payment of this subscription is open")
    return one.bill


def _require(one: Subscription, what: str, *statuses: Status) -> None:
    if one.status not in statuses:
        raise InvalidTransition(f"a subscription that is {one.status} cannot {what}")
