"""Subscribing to a package: at once or later, with a trial or with a first charge. Part of the caller's transaction."""

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
from dues.payments.methods import Method, chosen_apart, default_in, method_for
from dues.payments.models import PaymentMethod
from dues.postgres import db, fetch_row
from dues.stores.models import Store
from dues.stores.service import wrong_currency
from dues.subscriptions import machine, state
from dues.subscriptions.calendar import Interval
from dues.subscriptions.subscription import LIVE, Subscription
from dues.subscriptions.terms import Terms

# A start that is further ahead is taken for a mistake.
_LATEST_START = timedelta(days=366)

_STANDING = """
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
    """A subscription to a package, charged to `payment_method`, or to the caller's default. It begins at once, or at
    `start_at`. `amount` and `currency` are the price that the member has seen: where it is another by now, nothing
    begins."""

    package_id: UUID
    payment_method: Method | UnsetType = UNSET
    start_at: Moment | UnsetType = UNSET
    amount: Amount | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET


def subscribe(
    store_id: UUID, user_id: UUID, new: NewSubscription, currencies: Collection[str], *, only_in: UUID | None = None
) -> Subscription:
    """A subscription by `user_id`, in a store that takes `currencies`; where something is to be paid first, it is
    `incomplete` and a job charges it. `only_in`: the store that the caller's token is bound to, if it is.

    Raises: ValidationFailed for a package or a payment method that is none, a time that is not ahead, or where there is
    nothing to charge; Conflict for a package that is archived or has another price, and for a user who is a
    member already.
    """
    at = store_now(store_id)
    _check(new, at)
    package = package_for_sale(store_id, new.package_id, currencies)
    if new.amount is not UNSET:
        require_price(package, new.amount, new.currency)
    lock_customer(store_id, user_id, at, by_member=True)
    _require_no_member(store_id, user_id, at)
    terms = terms_of(package)
    method = _method(store_id, user_id, new, only_in, is_needed=terms.amount > 0)
    subscription_id = new_id()
    days = package.trial_days
    refused = days > 0 and not _take_trial(store_id, user_id, subscription_id, at)
    store = db.session.get_one(Store, store_id)
    one = machine.create(
        store_id=store_id,
        subscription_id=subscription_id,
        user_id=user_id,
        terms=terms,
        timezone=store.timezone,
        created_at=at,
        start_at=at if new.start_at is UNSET else new.start_at,
        trial_days=0 if refused else days,
        trial_refused=refused,
        payment_method_id=chosen_apart(method, store_id),
        test=store.test,
    )
    db.session.flush()
    (one,) = state.record([state.Change(before=None, after=one, kind="created", at=at, actor_id=user_id)])
    if one.anchor_at > at:
        return one
    posting = Posting(at, user_id)
    begin(posting, one, account_of(one), off_session=False)
    return posting.write()[0]


def begin(posting: Posting, one: Subscription, account: Account, *, off_session: bool) -> None:
    """A subscription that is to begin by now does: with its trial, or its first charge."""
    if one.trial_days:
        posting.change(one, machine.begin_trial(one), "trial_started")
        return
    start, end = one.terms.period(one.anchor_at, one.timezone, 0) if one.terms.is_recurring else (one.anchor_at, None)
    line = Line(
        description=account.package_name,
        amount=one.amount,
        package_id=one.package_id,
        period_start=start,
        period_end=end,
    )
    opened = bills.open_bill(posting, one, account, "create", [line], due=one.anchor_at, off_session=off_session)
    posting.change(one, opened.subscription, "activated" if opened.is_paid else "charging")


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
    """`kept` is what the buyer has already, which they may keep whatever has become of it.

    Raises: ValidationFailed for what is no package of the store, or in a currency that it does not take; Conflict for
    one that is archived.
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
    return Terms(
        package_id=package.id,
        amount=package.amount,
        currency=package.currency,
        interval=cast(Interval, package.interval),
        interval_count=package.interval_count,
    )


def _require_no_member(store_id: UUID, user_id: UUID, at: datetime) -> None:
    """Of a member's subscriptions that never began those that are not under way are over by this.

    Raises: Conflict for a member, or where one is about to begin.
    """
    values = {"store_id": store_id, "user_id": user_id, "statuses": "{" + ",".join((*LIVE, "incomplete")) + "}"}
    (document,) = fetch_row(_STANDING, values, hot=True) or ("[]",)
    posting = Posting(at, user_id)
    for one in state.parse_all(document):
        if one.is_live or one.bill is None or one.bill.state == "trying":
            href = f"/v1/stores/{store_id}/subscriptions/{one.id}"
            raise Conflict(
                "you have a subscription at this store already",
                code="already_subscribed",
                links={"subscription": href},
            )
        bills.void_bill(one, at)
        posting.change(one, machine.over(one, at), "expired", {"reason": "superseded"})
    posting.write()


def _method(
    store_id: UUID, user_id: UUID, new: NewSubscription, only_in: UUID | None, *, is_needed: bool
) -> PaymentMethod | None:
    """What the member is charged with. A token is stored: they are charged while they are away."""
    if new.payment_method is not UNSET:
        return method_for(store_id, user_id, new.payment_method, only_in)
    found = default_in(user_id, chosen_gateway(store_id), store_id)
    if found is None and is_needed:
        raise ValidationFailed.of("#/payment_method", "is required where there is no default", "required")
    return found


def trial_mailbox(email_normal: str) -> bytes:
    """By what a mailbox is known that has had a trial: the same under whatever spelling of the address."""
    return sha256(without_tag(email_normal).encode()).digest()


def _take_trial(store_id: UUID, user_id: UUID, subscription_id: UUID, at: datetime) -> bool:
    """Returns: whether the member has not had a trial at the store, under whatever spelling of their address."""
    mailbox = trial_mailbox(db.session.get_one(User, user_id).email_normal)
    values = {"store_id": store_id, "mailbox": mailbox, "id": subscription_id, "at": at}
    return fetch_row(_TAKE_TRIAL, values) is not None
