"""The due actions of a subscription: renewal, retry, reminder, end of access and so on. Each is done once, and is dated
to the moment at which it was due.

This module decides what one action changes; a Posting writes the changes of many subscriptions at once.
"""

from datetime import datetime

from dues.billing import bills
from dues.billing.accounts import Account
from dues.billing.expiry import warn_of_expiry
from dues.billing.invoices import Line
from dues.billing.posting import Posting
from dues.billing.subscribe import begin
from dues.subscriptions import machine, state
from dues.subscriptions.state import ChangeKind
from dues.subscriptions.subscription import Subscription
from dues.subscriptions.timeline import next_action


def act(posting: Posting, one: Subscription, account: Account) -> None:
    """Carry out the first due action of a subscription, which is locked together with its member's money."""
    found = next_action(one)
    if found is None:
        return
    due, action = found
    match action:
        case "begin":
            begin(posting, one, account, off_session=True)
        case "remind":
            _remind(posting, one, account)
        case "end_period":
            _end_period(posting, one, account)
        case "retry":
            after = bills.try_again(posting, one, account, due, manually=False, off_session=True)
            _record_retry(posting, one, after)
        case "end_access":
            posting.change(one, machine.without_access(one), "access_ended")
        case "give_up":
            _give_up(posting, one, account, due)
        case "resume":
            resume(posting, one, account, due, off_session=True)
        case "lapse":
            _lapse(posting, one, account)


def _remind(posting: Posting, one: Subscription, account: Account) -> None:
    assert one.current_period_end
    is_trial = one.status == "trialing"
    posting.change(one, machine.reminded(one), "reminded")
    posting.notify(one, "trial_ending" if is_trial else "renewal", one.current_period_end)
    warn_of_expiry(posting, one, account, is_reminded=True)
    if is_trial:
        state.emit_event("subscription.trial_ending", one)


def _end_period(posting: Posting, one: Subscription, account: Account) -> None:
    end = one.current_period_end
    assert end
    following = machine.end_period(one)
    if one.bill:
        # A change that is still unpaid does not delay the renewal; it is canceled.
        bills.void_bill(one, posting.at)
    if following.status != "active":
        kind: ChangeKind = "ended" if following.is_over else "paused"
        posting.change(one, following, kind)
        posting.notify(following, "ended" if following.is_over else "paused", end)
        return
    name = account.pending_name if following.package_id != one.package_id else account.package_name
    line = Line(
        description=name or account.package_name,
        amount=following.amount,
        package_id=following.package_id,
        period_start=following.current_period_start,
        period_end=following.current_period_end,
    )
    after = bills.open_bill(posting, following, account, "renewal", [line], due=end, off_session=True).subscription
    began: ChangeKind = "activated" if one.status == "trialing" else "renewed"
    posting.change(one, after, "past_due" if after.status == "past_due" else began)
    if after.status == "past_due":
        posting.notify(after, "payment_failed", end)
    if following.package_id != one.package_id:
        posting.notify(following, "changed", end)
    warn_of_expiry(posting, following, account)


def _record_retry(posting: Posting, one: Subscription, after: Subscription) -> None:
    """Record the result of another try to collect the bill of a subscription in arrears."""
    if after.bill is None:
        posting.change(one, after, "recovered")
    elif after.bill.is_in_flight:
        posting.change(one, after, "retried")
    else:
        posting.change(one, after, "declined", {"failure_code": after.bill.failure_code})
        posting.notify(after, "payment_failed", after.bill.tried_at)


def _give_up(posting: Posting, one: Subscription, account: Account, due: datetime) -> None:
    if account.dunning == "stay":
        posting.change(one, machine.given_up(one), "given_up")
        return
    bills.void_bill(one, posting.at)
    ended = machine.over(one, due)
    posting.change(one, ended, "ended", {"reason": "not_paid"})
    posting.notify(ended, "ended", due)


def resume(posting: Posting, one: Subscription, account: Account, at: datetime, *, off_session: bool) -> None:
    """Resume a paused subscription with a new period that begins at `at`. It takes effect once the period is paid."""
    line = Line(
        description=account.package_name,
        amount=one.amount,
        package_id=one.package_id,
        period_start=at,
        period_end=one.terms.period(at, one.timezone, 0)[1],
    )
    opened = bills.open_bill(posting, one, account, "resume", [line], due=at, off_session=off_session)
    after = opened.subscription
    if opened.is_paid:
        posting.change(one, after, "resumed")
        posting.notify(after, "resumed", at)
    elif after.status == "past_due":
        posting.change(one, after, "past_due")
        posting.notify(after, "payment_failed", at)
    else:
        posting.change(one, after, "resume_requested")


def _lapse(posting: Posting, one: Subscription, account: Account) -> None:
    """The payer has not acted in time: stop waiting for them."""
    bill = one.bill
    assert bill
    if bill.kind == "create":
        bills.void_bill(one, posting.at)
        posting.change(one, machine.over(one, posting.at), "expired")
        return
    after = machine.declined(one, "authentication_failed", posting.at, account.grace_days)
    if bill.kind == "change" or after.is_over:
        bills.void_bill(one, posting.at)
    else:
        bills.cancel_payment(one)
    if after.is_over:
        posting.change(one, after, "ended", {"failure_code": "authentication_failed"})
        posting.notify(after, "ended", posting.at)
        return
    kinds: dict[str, ChangeKind] = {"change": "change_withdrawn", "resume": "past_due", "renewal": "declined"}
    posting.change(one, after, kinds[bill.kind], {"failure_code": "authentication_failed"})
    if after.status == "past_due":
        posting.notify(after, "payment_failed", bill.tried_at)
