"""Changes that a member or the store's staff make to a subscription. Each function is part of the caller's transaction;
the subscription is locked together with its member's money."""

from collections.abc import Collection
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import asdict, replace

from dues.billing import bills
from dues.billing.accounts import account_of, come, lock_subscription
from dues.billing.changes import SubscriptionPreview, When, carry_out, plan_change, preview
from dues.billing.due import resume
from dues.billing.posting import Posting
from dues.billing.refund import refund_unused
from dues.billing.subscribe import package_for_sale
from dues.clock import Moment, store_now
from dues.errors import Conflict, Fault, Forbidden, InvalidTransition, ValidationFailed
from dues.payments.methods import Method, explicit_method_id, method_for
from dues.subscriptions import machine
from dues.subscriptions.dunning import MANUAL_TRIES
from dues.subscriptions.subscription import Subscription
from dues.text import OneLine, Paragraphs

Reason = Annotated[OneLine, Meta(max_length=200)]
Comment = Annotated[Paragraphs, Meta(max_length=2000)]

# What a request may change, and the fields that may accompany it.
_ACTIONS: dict[str, tuple[str, ...]] = {
    "package_id": ("when", "prorated_at"),
    "cancel_at_period_end": ("reason", "comment"),
    "paused": ("resumes_at",),
    "payment_method": (),
}


class SubscriptionChange(Struct, forbid_unknown_fields=True):
    """One change at a time: to another package, now or at the period's end (by default now if it costs more per month);
    to cancel at the period's end, or to withdraw that; to pause at the period's end, or to resume; or to another
    payment method, to which any amount owed is charged at once."""

    package_id: UUID | UnsetType = UNSET
    when: When | UnsetType = UNSET
    prorated_at: Moment | UnsetType = UNSET
    cancel_at_period_end: bool | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    comment: Comment | UnsetType = UNSET
    paused: bool | UnsetType = UNSET
    resumes_at: Moment | UnsetType = UNSET
    payment_method: Method | UnsetType | None = UNSET


class SubscriptionEnding(Struct, forbid_unknown_fields=True):
    """How a subscription is ended: without a refund, or with a refund of the unused time."""

    refund: Literal["none", "unused"] = "none"


def change_subscription(
    subscription: Subscription,
    change: SubscriptionChange,
    actor_id: UUID,
    currencies: Collection[str],
    *,
    only_in: UUID | None = None,
) -> None:
    """Change a subscription. `only_in` is the store that the caller's token is restricted to, if any.

    Raises: ValidationFailed for a request that asks for nothing or for two things; InvalidTransition and Conflict for a
    change that is not possible at present.
    """
    action = _action(change)
    at = store_now(subscription.store_id)
    posting = Posting(at, actor_id)
    if actor_id == subscription.user_id and _is_lasting(change):
        come(subscription.store_id, actor_id, at)
    match action:
        case "package_id":
            _change_package(posting, subscription, change, currencies)
        case "cancel_at_period_end" if change.cancel_at_period_end:
            _cancel(posting, subscription, change)
        case "cancel_at_period_end":
            posting.change(subscription, machine.uncanceled(subscription), "cancel_withdrawn")
        case "paused" if change.paused:
            _pause(posting, subscription, None if change.resumes_at is UNSET else change.resumes_at)
        case "paused":
            _resume_now(posting, subscription)
        case "payment_method":
            _change_method(posting, subscription, change.payment_method, actor_id, only_in)
    posting.write()


def _is_lasting(change: SubscriptionChange) -> bool:
    """Whether whoever asks for this wants the membership. Who only ends one has not come to the store, which may have
    imported a stranger."""
    return change.package_id is not UNSET or change.payment_method is not UNSET


def preview_change(
    subscription: Subscription, change: SubscriptionChange, currencies: Collection[str]
) -> SubscriptionPreview:
    """What a change of package would cost. Nothing is written. Raises: as `change_subscription` does."""
    if _action(change) != "package_id":
        raise ValidationFailed.of("#/package_id", "is required for a preview", "required")
    account = account_of(subscription)
    plan = _plan(subscription, change, currencies)
    return preview(subscription, account, plan)


def _action(change: SubscriptionChange) -> str:
    given = {name for name, value in asdict(change).items() if value is not UNSET}
    actions = [name for name in _ACTIONS if name in given]
    if not actions:
        raise ValidationFailed.of("#", f"asks for nothing: say one of {', '.join(_ACTIONS)}", "required")
    faults = [
        Fault(code="conflict", detail=f"cannot go with {actions[0]}", pointer=f"#/{name}") for name in actions[1:]
    ]
    faults += [
        Fault(code="conflict", detail=f"does not go with {actions[0]}", pointer=f"#/{name}")
        for name in sorted(given - set(_ACTIONS) - set(_ACTIONS[actions[0]]))
    ]
    if faults:
        raise ValidationFailed.of_faults(faults)
    return actions[0]


def _plan(subscription: Subscription, change: SubscriptionChange, currencies: Collection[str]) -> Any:
    assert change.package_id is not UNSET
    now = store_now(subscription.store_id)
    package = package_for_sale(subscription.store_id, change.package_id, currencies, kept=subscription.package_id)
    when = None if change.when is UNSET else change.when
    prorated_at = None if change.prorated_at is UNSET else change.prorated_at
    return plan_change(subscription, account_of(subscription), package, when=when, now=now, prorated_at=prorated_at)


def _change_package(
    posting: Posting, subscription: Subscription, change: SubscriptionChange, currencies: Collection[str]
) -> None:
    carry_out(posting, subscription, account_of(subscription), _plan(subscription, change, currencies))


def _cancel(posting: Posting, subscription: Subscription, change: SubscriptionChange) -> None:
    reason = None if change.reason is UNSET else change.reason
    comment = None if change.comment is UNSET else change.comment
    if subscription.cancel_at_period_end and (subscription.cancel_reason, subscription.cancel_comment) == (
        reason,
        comment,
    ):
        return
    after = machine.canceled_at_end(subscription, posting.at, reason, comment)
    details = {"reason": reason} if reason else {}
    if after.is_over:
        _end(posting, subscription, after, details)
        return
    if subscription.pending and subscription.pending.when == "payment":
        # A change that is still unpaid is not wanted any more.
        bills.void_bill(subscription, posting.at)
        after = machine.without_change(after)
    posting.change(subscription, after, "cancel_scheduled", details)
    assert after.current_period_end
    posting.notify(after, "canceled", after.current_period_end)


def _pause(posting: Posting, subscription: Subscription, resumes_at: datetime | None) -> None:
    earliest = subscription.current_period_end if subscription.status == "active" else posting.at
    paused = subscription.status == "paused"
    after = machine.to_resume_at(subscription, resumes_at) if paused else machine.to_be_paused(subscription, resumes_at)
    if resumes_at and earliest and resumes_at <= earliest:
        raise ValidationFailed.of("#/resumes_at", "must be later than the pause begins", "range")
    if after == subscription:
        return
    posting.change(subscription, after, "resume_scheduled" if paused else "pause_scheduled")
    if not paused and after.pause_at and subscription.pause_at is None:
        posting.notify(after, "pausing", after.pause_at)


def _resume_now(posting: Posting, subscription: Subscription) -> None:
    if subscription.status != "paused":
        posting.change(subscription, machine.not_to_be_paused(subscription), "pause_withdrawn")
        return
    resume(posting, subscription, account_of(subscription), posting.at, off_session=False)


def _change_method(
    posting: Posting, subscription: Subscription, named: str | UnsetType | None, actor_id: UUID, only_in: UUID | None
) -> None:
    """Charge this subscription to another payment method; with `named` None, to the member's default from now on. Any
    amount owed is charged at once."""
    if actor_id != subscription.user_id:
        raise Forbidden("only the member can say what is charged")
    if subscription.is_over:
        raise InvalidTransition(f"a subscription that is {subscription.status} is not charged any more")
    method = None
    if isinstance(named, str):
        method = method_for(subscription.store_id, subscription.user_id, named, only_in)
        if lock_subscription(subscription.store_id, subscription.id).version != subscription.version:
            # The new method has become the member's default, and the amount owed was already charged to it
            # (methods.py).
            return
    changed = replace(
        subscription, payment_method_id=explicit_method_id(method, subscription.store_id), uses_default_method=True
    )
    if subscription.bill and subscription.bill.state != "trying" and subscription.status in ("past_due", "incomplete"):
        retry_now(posting, subscription, changed)
    elif subscription.bill and subscription.status == "past_due":
        raise InvalidTransition("a payment of this subscription is under way", code="payment_in_flight")
    elif changed != subscription:
        posting.change(subscription, changed, "method_changed")


def retry_now(posting: Posting, subscription: Subscription, changed: Subscription) -> None:
    """Try at once to collect the amount owed, at the payer's request. Raises: Conflict if they have used up their
    tries."""
    assert subscription.bill
    if subscription.bill.manual_tries >= MANUAL_TRIES:
        raise Conflict(f"what is owed was tried again {MANUAL_TRIES} times already", code="too_many_tries")
    after = bills.try_again(posting, changed, account_of(changed), posting.at, manually=True, off_session=False)
    if after.bill is None:
        posting.change(subscription, after, "activated" if subscription.status == "incomplete" else "recovered")
    else:
        posting.change(subscription, after, "retried")


def end_subscription(subscription: Subscription, ending: SubscriptionEnding, actor_id: UUID) -> None:
    """End a subscription now. Raises: InvalidTransition if it is over already."""
    posting = Posting(store_now(subscription.store_id), actor_id)
    after = machine.over(subscription, posting.at)
    if ending.refund == "unused":
        refund_unused(subscription, posting.at, actor_id)
    _end(posting, subscription, after, {"refund": ending.refund})
    posting.write()


def _end(posting: Posting, subscription: Subscription, after: Subscription, details: dict[str, Any]) -> None:
    bills.void_bill(subscription, posting.at)
    posting.change(subscription, after, "expired" if after.status == "expired" else "ended", details)
    if after.status != "expired":
        posting.notify(after, "ended", posting.at)
