"""Changing to another package: first a preview shows what the change costs, then the change is made at exactly that
price.

A change that costs money takes effect once it is paid. A change scheduled for the period's end costs nothing until
then.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from dues.billing import bills, periods
from dues.billing.accounts import Account
from dues.billing.balance import apply_balance
from dues.billing.invoices import Line
from dues.billing.posting import Posting
from dues.billing.subscribe import terms_of
from dues.errors import Conflict, InvalidTransition, ValidationFailed
from dues.money import split_gross
from dues.packages.models import Package
from dues.subscriptions import machine
from dues.subscriptions.calendar import add_days
from dues.subscriptions.proration import Proration, prorate
from dues.subscriptions.subscription import Pending, Subscription
from dues.subscriptions.terms import Terms

When = Literal["now", "period_end"]

# How long a preview stays valid.
_PREVIEW_HOLDS = timedelta(hours=1)


class PreviewPeriod(msgspec.Struct):
    start: datetime
    end: datetime | None


class PreviewLine(msgspec.Struct):
    """`amount` is negative where something is given back."""

    description: str
    amount: int
    quantity: int
    period: PreviewPeriod


class SubscriptionPreview(msgspec.Struct):
    """What a change would cost now, in minor units of `currency`: `subtotal` plus `tax`. Of that sum `due` is charged;
    the rest is taken from the balance, or added to it. If the change is requested with this `prorated_at` within an
    hour, it costs exactly this."""

    currency: str
    lines: list[PreviewLine]
    subtotal: int
    tax: int
    balance_applied: int
    due: int
    prorated_at: datetime
    next_period: PreviewPeriod | None


@dataclass(frozen=True, slots=True)
class Plan:
    """How a change is carried out: `kind` says which way, effective from `at`, with these invoice lines."""

    kind: Literal["nothing", "withdraw", "at_period_end", "freely", "trial", "paid"]
    at: datetime
    terms: Terms
    trial_days: int = 0
    restarts: bool = False
    lines: tuple[Line, ...] = ()
    next_period: tuple[datetime, datetime | None] | None = None


def plan_change(
    subscription: Subscription,
    account: Account,
    package: Package,
    *,
    when: When | None,
    now: datetime,
    prorated_at: datetime | None = None,
) -> Plan:
    """Work out how to change a subscription to `package`, and what that costs.

    Raises: InvalidTransition if the package cannot be changed now; Conflict if a preview is no longer valid;
    ValidationFailed for a package in another currency, or a `prorated_at` in the future.
    """
    at = _prorated_at(subscription, package, prorated_at, now)
    new = terms_of(package)
    if package.id == subscription.package_id:
        return Plan(
            "withdraw" if subscription.pending and subscription.pending.when == "period_end" else "nothing",
            at,
            subscription.terms,
        )
    machine.require_changeable(subscription)
    if subscription.status != "paused" and subscription.current_period_end and now >= subscription.current_period_end:
        # The renewal must come first, however late it is: there is nothing left to prorate in a period that is over.
        raise InvalidTransition("the period is over and about to be renewed: try again in a moment", code="renewal_due")
    if new.currency != subscription.currency:
        raise ValidationFailed.of("#/package_id", "is in another currency than the subscription", "currency")
    if subscription.status == "paused":
        return Plan("freely", at, new)
    if when == "period_end" or (
        when is None and subscription.status == "active" and not new.is_dearer_than(subscription.terms)
    ):
        return _at_period_end(subscription, new, at)
    if subscription.status == "trialing":
        return _in_trial(subscription, new, package, at)
    assert subscription.current_period_start
    paid = periods.covering(subscription, at)
    change = prorate(
        subscription.terms,
        new,
        period=(subscription.current_period_start, subscription.current_period_end),
        covered=paid.covered if paid else None,
        timezone=subscription.timezone,
        at=at,
    )
    lines = _lines(subscription, account, package, change)
    return Plan("paid", at, new, restarts=change.restarts, lines=lines, next_period=(at, change.end))


def _prorated_at(subscription: Subscription, package: Package, prorated_at: datetime | None, now: datetime) -> datetime:
    """The moment from which a change is calculated: now, or that of a preview. A preview is valid for an hour, and only
    while the subscription and the package are unchanged. Otherwise time that one change has credited could be credited
    again by another change dated before it."""
    if prorated_at is None:
        return now
    if prorated_at > now:
        raise ValidationFailed.of("#/prorated_at", "must not be ahead", "range")
    # Packages change in real time, which a test store's clock does not follow.
    changed_at = subscription.updated_at if subscription.test else max(subscription.updated_at, package.updated_at)
    if now - prorated_at > _PREVIEW_HOLDS or prorated_at < changed_at:
        raise Conflict("what was shown no longer holds: ask for another preview", code="preview_expired")
    return prorated_at


def _at_period_end(subscription: Subscription, new: Terms, at: datetime) -> Plan:
    end = subscription.current_period_end
    if end is None:
        raise InvalidTransition("what is bought once has no period that ends: change it now instead")
    following = new.period(end, subscription.timezone, 0)[1] if new.is_recurring else None
    return Plan("at_period_end", at, new, next_period=(end, following))


def _in_trial(subscription: Subscription, new: Terms, package: Package, at: datetime) -> Plan:
    """The member gets the new package's trial, counted from the beginning of the present trial. If that would already
    be over, the first paid period begins now."""
    assert subscription.trial_start
    end = add_days(subscription.trial_start, subscription.timezone, package.trial_days)
    if end > at:
        return Plan("trial", at, new, trial_days=package.trial_days, next_period=(subscription.trial_start, end))
    period_end = new.period(at, subscription.timezone, 0)[1] if new.is_recurring else None
    line = Line(
        description=package.name, amount=new.amount, package_id=package.id, period_start=at, period_end=period_end
    )
    return Plan("paid", at, new, restarts=True, lines=(line,), next_period=(at, period_end))


def _lines(subscription: Subscription, account: Account, package: Package, change: Proration) -> tuple[Line, ...]:
    debit = Line(
        description=package.name,
        amount=change.debit,
        package_id=package.id,
        period_start=change.start,
        period_end=change.end,
    )
    if change.credit == 0:
        return (debit,)
    credit = Line(
        description=f"Unused time: {account.package_name}",
        amount=-change.credit,
        package_id=subscription.package_id,
        period_start=change.start,
        period_end=change.credit_end,
    )
    return credit, debit


def preview(subscription: Subscription, account: Account, plan: Plan) -> SubscriptionPreview:
    """What a planned change would cost."""
    total = sum(line.amount for line in plan.lines)
    net, tax = split_gross(total, account.tax_rate)
    applied, due = apply_balance(total, account.balance, subscription.currency)
    lines = []
    for line in plan.lines:
        assert line.period_start
        period = PreviewPeriod(line.period_start, line.period_end)
        lines.append(PreviewLine(line.description, line.amount, line.quantity, period))
    return SubscriptionPreview(
        currency=subscription.currency,
        lines=lines,
        subtotal=net,
        tax=tax,
        balance_applied=applied,
        due=due,
        prorated_at=plan.at,
        next_period=PreviewPeriod(*plan.next_period) if plan.next_period else None,
    )


def carry_out(posting: Posting, subscription: Subscription, account: Account, plan: Plan) -> None:
    """Carry out a planned change. If something has to be paid, a job charges it first. Raises: Conflict if there is no
    payment method to charge."""
    match plan.kind:
        case "withdraw":
            posting.change(subscription, machine.without_change(subscription), "change_withdrawn")
        case "at_period_end":
            posting.change(
                subscription, machine.to_change(subscription, _pending(plan, "period_end")), "change_scheduled"
            )
        case "freely":
            posting.change(subscription, machine.changed_freely(subscription, plan.terms), "changed")
        case "trial":
            posting.change(subscription, machine.with_trial_of(subscription, plan.terms, plan.trial_days), "changed")
        case "paid":
            _pay(posting, subscription, account, plan)


def _pay(posting: Posting, subscription: Subscription, account: Account, plan: Plan) -> None:
    changing = machine.to_change(subscription, _pending(plan, "payment"))
    opened = bills.open_bill(posting, changing, account, "change", plan.lines, due=plan.at, off_session=False)
    if opened.is_paid:
        posting.change(subscription, opened.subscription, "changed")
        posting.notify(opened.subscription, "changed", plan.at)
        return
    if opened.subscription.bill is None:
        raise Conflict("there is no payment method to charge", code=bills.NO_METHOD)
    posting.change(subscription, opened.subscription, "change_requested")


def _pending(plan: Plan, when: Literal["period_end", "payment"]) -> Pending:
    return Pending(
        when=when,
        package_id=plan.terms.package_id,
        amount=plan.terms.amount,
        currency=plan.terms.currency,
        interval=plan.terms.interval,
        interval_count=plan.terms.interval_count,
        at=plan.at if when == "payment" else None,
        restarts=plan.restarts,
    )
