"""Subscribing to a package: now or later, with a trial or with a first charge. Each function is part of the caller's
transaction."""

from collections.abc import Collection
from datetime import datetime, timedelta
from hashlib import sha256
from typing import cast
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from dues.accounts.models import User
from dues.billing import bills
from dues.billing.accounts import Account, account_of, lock_customer
from dues.billing.invoices import Line
from dues.billing.posting import Posting
from dues.clock import Moment, store_now
from dues.errors import Conflict, Fault, ValidationFailed
from dues.ids import new_id
from dues.mail.address import without_tag
from dues.money import Amount, Currency
from dues.packages.models import Package
from dues.packages.service import require_price
from dues.payments.gateways import chosen_gateway
from dues.payments.methods import Method, default_in, explicit_method_id, method_for
from dues.payments.models import PaymentMethod
from dues.postgres import db, fetch_row
from dues.stores.models import Store
from dues.stores.service import wrong_currency
from dues.subscriptions import machine, state
from dues.subscriptions.calendar import Interval
from dues.subscriptions.subscription import LIVE, Subscription
from dues.subscriptions.terms import Terms

# A start further in the future is considered a mistake.
_LATEST_START = timedelta(days=366)

_CURRENT = """
    select coalesce(json_agg(to_jsonb(s) order by s.id), '[]')::text from (
        select * from subscriptions s
        where s.store_id = %(store_id)s and s.user_id = %(user_id)s and s.status = any(%(statuses)s::text[])
        for update) s
"""
_TAKE_TRIAL = """
    insert into trial_uses(store_id, mailbox, subscription_id, created_at)
    values (%(store_id)s, %(mailbox)s, %(id)s, %(at)s) on conflict do nothing returning store_id
"""


class NewSubscription(Struct, forbid_unknown_fields=True):
    """A subscription to a package, charged to `payment_method` or to the caller's default. It begins at once, or at
    `start_at`. `amount` and `currency` are the price that the member has seen: if the price has changed since, the
    request is refused."""

    package_id: UUID
    payment_method: Method | UnsetType = UNSET
    start_at: Moment | UnsetType = UNSET
    amount: Amount | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET


def subscribe(
    store_id: UUID, user_id: UUID, new: NewSubscription, currencies: Collection[str], *, only_in: UUID | None = None
) -> Subscription:
    """Create a subscription of `user_id`, in a store that accepts `currencies`. If something has to be paid first, the
    subscription is `incomplete` and a job charges it. `only_in` is the store that the caller's token is restricted to,
    if any.

    Raises: ValidationFailed for an unknown package or payment method, a `start_at` that is not within the next year, or
    if there is nothing to charge; Conflict if the package is archived or has another price, or if the user is a member
    already.
    """
    at = store_now(store_id)
    _check(new, at)
    package = package_for_sale(store_id, new.package_id, currencies)
    if new.amount is not UNSET:
        require_price(package, new.amount, new.currency)
    lock_customer(store_id, user_id, at, by_member=True)
    _require_no_membership(store_id, user_id, at)
    terms = terms_of(package)
    method = _method(store_id, user_id, new, only_in, is_needed=terms.amount > 0)
    subscription_id = new_id()
    days = package.trial_days
    refused = days > 0 and not _take_trial(store_id, user_id, subscription_id, at)
    store = db.session.get_one(Store, store_id)
    subscription = machine.create(
        store_id=store_id,
        subscription_id=subscription_id,
        user_id=user_id,
        terms=terms,
        timezone=store.timezone,
        created_at=at,
        start_at=at if new.start_at is UNSET else new.start_at,
        trial_days=0 if refused else days,
        trial_refused=refused,
        payment_method_id=explicit_method_id(method, store_id),
        test=store.test,
    )
    db.session.flush()
    (subscription,) = state.record(
        [state.Change(before=None, after=subscription, kind="created", at=at, actor_id=user_id)]
    )
    if subscription.anchor_at > at:
        return subscription
    posting = Posting(at, user_id)
    begin(posting, subscription, account_of(subscription), off_session=False)
    return posting.write()[0]


def begin(posting: Posting, subscription: Subscription, account: Account, *, off_session: bool) -> None:
    """Begin a subscription whose start has come: with its trial, or with its first charge."""
    if subscription.trial_days:
        posting.change(subscription, machine.begin_trial(subscription), "trial_started")
        return
    start, end = (
        subscription.terms.period(subscription.anchor_at, subscription.timezone, 0)
        if subscription.terms.is_recurring
        else (subscription.anchor_at, None)
    )
    line = Line(
        description=account.package_name,
        amount=subscription.amount,
        package_id=subscription.package_id,
        period_start=start,
        period_end=end,
    )
    opened = bills.open_bill(
        posting, subscription, account, "create", [line], due=subscription.anchor_at, off_session=off_session
    )
    posting.change(subscription, opened.subscription, "activated" if opened.is_paid else "charging")


def _check(new: NewSubscription, at: datetime) -> None:
    faults = []
    if (new.amount is UNSET) != (new.currency is UNSET):
        missing = "amount" if new.amount is UNSET else "currency"
        faults.append(Fault(code="required", detail="goes with the rest of the price", pointer=f"#/{missing}"))
    if new.start_at is not UNSET and not at < new.start_at <= at + _LATEST_START:
        faults.append(Fault(code="range", detail="must be a time of the next year", pointer="#/start_at"))
    if faults:
        raise ValidationFailed.of_faults(faults)


def package_for_sale(
    store_id: UUID, package_id: UUID, currencies: Collection[str], *, kept: UUID | None = None
) -> Package:
    """The package, if it can be bought. `kept` is the package that the buyer has already: they may keep it even if it
    is no longer sold.

    Raises: ValidationFailed if it is not a package of the store, or is in a currency that the store does not accept;
    Conflict if it is archived.
    """
    package = db.session.get(Package, (store_id, package_id))
    if package is None:
        raise ValidationFailed.of("#/package_id", "is not a package of this store", "not_found")
    if package_id == kept:
        return package
    if package.archived_at:
        raise Conflict("the package is archived", code="package_archived")
    if package.currency not in currencies:
        raise wrong_currency("#/package_id")
    return package


def terms_of(package: Package) -> Terms:
    """The price and period of a package as they are now."""
    return Terms(
        package_id=package.id,
        amount=package.amount,
        currency=package.currency,
        interval=cast(Interval, package.interval),
        interval_count=package.interval_count,
    )


def _require_no_membership(store_id: UUID, user_id: UUID, at: datetime) -> None:
    """Check that the user has no subscription at the store. Subscriptions that never began are expired by this, except
    one whose payment is under way.

    Raises: Conflict if the user is a member, or if a subscription of theirs is about to begin.
    """
    values = {"store_id": store_id, "user_id": user_id, "statuses": "{" + ",".join((*LIVE, "incomplete")) + "}"}
    (document,) = fetch_row(_CURRENT, values, hot=True) or ("[]",)
    posting = Posting(at, user_id)
    for subscription in state.parse_all(document):
        if subscription.is_live or subscription.bill is None or subscription.bill.state == "trying":
            href = f"/v1/stores/{store_id}/subscriptions/{subscription.id}"
            raise Conflict(
                "you have a subscription at this store already",
                code="already_subscribed",
                links={"subscription": href},
            )
        bills.void_bill(subscription, at)
        posting.change(subscription, machine.over(subscription, at), "expired", {"reason": "superseded"})
    posting.write()


def _method(
    store_id: UUID, user_id: UUID, new: NewSubscription, only_in: UUID | None, *, is_needed: bool
) -> PaymentMethod | None:
    """The payment method to charge. A token is stored as a method, since later charges are made without the member."""
    if new.payment_method is not UNSET:
        return method_for(store_id, user_id, new.payment_method, only_in)
    found = default_in(user_id, chosen_gateway(store_id), store_id)
    if found is None and is_needed:
        raise ValidationFailed.of("#/payment_method", "is required where there is no default", "required")
    return found


def trial_mailbox(email_normal: str) -> bytes:
    """The digest that identifies a mailbox which has had a trial. It is the same for all spellings of the address."""
    return sha256(without_tag(email_normal).encode()).digest()


def _take_trial(store_id: UUID, user_id: UUID, subscription_id: UUID, at: datetime) -> bool:
    """Record that the member uses their trial. Returns: False if the same mailbox has already had a trial at the
    store."""
    mailbox = trial_mailbox(db.session.get_one(User, user_id).email_normal)
    values = {"store_id": store_id, "mailbox": mailbox, "id": subscription_id, "at": at}
    return fetch_row(_TAKE_TRIAL, values) is not None
