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


def act(posting: Posting, subscription: Subscription, account: Account) -> None:
    """Carry out the first due action of a subscription, which is locked together with its member's money."""
    found = next_action(subscription)
    if found is None:
        return
    due, action = found
    match action:
        case "begin":
            begin(posting, subscription, account, off_session=True)
        case "remind":
            _remind(posting, subscription, account)
        case "end_period":
            _end_period(posting, subscription, account)
        case "retry":
            after = bills.try_again(posting, subscription, account, due, manually=False, off_session=True)
            _record_retry(posting, subscription, after)
        case "end_access":
            posting.change(subscription, machine.without_access(subscription), "access_ended")
        case "give_up":
            _give_up(posting, subscription, account, due)
        case "resume":
            resume(posting, subscription, account, due, off_session=True)
        case "lapse":
            _lapse(posting, subscription, account)


def _remind(posting: Posting, subscription: Subscription, account: Account) -> None:
    assert subscription.current_period_end
    is_trial = subscription.status == "trialing"
    posting.change(subscription, machine.reminded(subscription), "reminded")
    posting.notify(subscription, "trial_ending" if is_trial else "renewal", subscription.current_period_end)
    warn_of_expiry(posting, subscription, account, is_reminded=True)
    if is_trial:
        state.emit_event("subscription.trial_ending", subscription)


def _end_period(posting: Posting, subscription: Subscription, account: Account) -> None:
    end = subscription.current_period_end
    assert end
    following = machine.end_period(subscription)
    if subscription.bill:
        # A change that is still unpaid does not delay the renewal; it is canceled.
        bills.void_bill(subscription, posting.at)
    if following.status != "active":
        kind: ChangeKind = "ended" if following.is_over else "paused"
        posting.change(subscription, following, kind)
        posting.notify(following, "ended" if following.is_over else "paused", end)
        return
    name = account.pending_name if following.package_id != subscription.package_id else account.package_name
    line = Line(
        description=name or account.package_name,
        amount=following.amount,
        package_id=following.package_id,
        period_start=following.current_period_start,
        period_end=following.current_period_end,
    )
    after = bills.open_bill(posting, following, account, "renewal", [line], due=end, off_session=True).subscription
    began: ChangeKind = "activated" if subscription.status == "trialing" else "renewed"
    posting.change(subscription, after, "past_due" if after.status == "past_due" else began)
    if after.status == "past_due":
        posting.notify(after, "payment_failed", end)
    if following.package_id != subscription.package_id:
        posting.notify(following, "changed", end)
    warn_of_expiry(posting, following, account)


def _record_retry(posting: Posting, subscription: Subscription, after: Subscription) -> None:
    """Record the result of another try to collect the bill of a subscription in arrears."""
    if after.bill is None:
        posting.change(subscription, after, "recovered")
    elif after.bill.is_in_flight:
        posting.change(subscription, after, "retried")
    else:
        posting.change(subscription, after, "declined", {"failure_code": after.bill.failure_code})
        posting.notify(after, "payment_failed", after.bill.tried_at)


def _give_up(posting: Posting, subscription: Subscription, account: Account, due: datetime) -> None:
    if account.dunning == "stay":
        posting.change(subscription, machine.given_up(subscription), "given_up")
        return
    bills.void_bill(subscription, posting.at)
    ended = machine.over(subscription, due)
    posting.change(subscription, ended, "ended", {"reason": "not_paid"})
    posting.notify(ended, "ended", due)


def resume(posting: Posting, subscription: Subscription, account: Account, at: datetime, *, off_session: bool) -> None:
    """Resume a paused subscription with a new period that begins at `at`. It takes effect once the period is paid."""
    line = Line(
        description=account.package_name,
        amount=subscription.amount,
        package_id=subscription.package_id,
        period_start=at,
        period_end=subscription.terms.period(at, subscription.timezone, 0)[1],
    )
    opened = bills.open_bill(posting, subscription, account, "resume", [line], due=at, off_session=off_session)
    after = opened.subscription
    if opened.is_paid:
        posting.change(subscription, after, "resumed")
        posting.notify(after, "resumed", at)
    elif after.status == "past_due":
        posting.change(subscription, after, "past_due")
        posting.notify(after, "payment_failed", at)
    else:
        posting.change(subscription, after, "resume_requested")


def _lapse(posting: Posting, subscription: Subscription, account: Account) -> None:
    """The payer has not acted in time: stop waiting for them."""
    bill = subscription.bill
    assert bill
    if bill.kind == "create":
        bills.void_bill(subscription, posting.at)
        posting.change(subscription, machine.over(subscription, posting.at), "expired")
        return
    after = machine.declined(subscription, "authentication_failed", posting.at, account.grace_days)
    if bill.kind == "change" or after.is_over:
        bills.void_bill(subscription, posting.at)
    else:
        bills.cancel_payment(subscription)
    if after.is_over:
        posting.change(subscription, after, "ended", {"failure_code": "authentication_failed"})
        posting.notify(after, "ended", posting.at)
        return
    kinds: dict[str, ChangeKind] = {"change": "change_withdrawn", "resume": "past_due", "renewal": "declined"}
    posting.change(subscription, after, kinds[bill.kind], {"failure_code": "authentication_failed"})
    if after.status == "past_due":
        posting.notify(after, "payment_failed", bill.tried_at)
