"""The mails about a subscription. Each is sent once, however often it is requested.

A notice is queued together with its content, in the transaction of the change that it is about; a job composes and
sends the mail.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, get_args
from uuid import UUID

import msgspec

from dues.accounts.brought_along import ONLY_BROUGHT_ALONG
from dues.accounts.unverified import count_mail
from dues.billing.notice import Facts, notice_message, plain_message
from dues.errors import NotFound
from dues.jobs import PermanentFailure, enqueue, kinds
from dues.mail.service import Draft
from dues.postgres import fetch_row
from dues.settings import site
from dues.subscriptions.subscription import Subscription

NoticeKind = Literal[
    "trial_ending",
    "renewal",
    "card_expiring",
    "payment_failed",
    "changed",
    "pausing",
    "paused",
    "resumed",
    "canceled",
    "ended",
]
NOTICE_KINDS: tuple[NoticeKind, ...] = get_args(NoticeKind)
# These are sent days in advance, to many members in one night. They use a queue where they do not delay jobs that
# somebody waits for.
_FORESEEN: frozenset[NoticeKind] = frozenset({"trial_ending", "renewal", "card_expiring"})

_ADDRESSEE = f"""
    select s.name, s.contact_email, u.name, u.email,
        u.email_verified_at is not null and not {ONLY_BROUGHT_ALONG.format(store_id="x.store_id")}, p.name, x.timezone
    from subscriptions x
    join stores s on s.id = x.store_id
    join users u on u.id = x.user_id and u.deleted_at is null
    join packages p on p.store_id = x.store_id and p.id = %(package_id)s
    where x.store_id = %(store_id)s and x.id = %(subscription_id)s
"""


class NoticeDetails(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a notice, taken from the subscription at that time: the arguments of its job."""

    store_id: UUID
    subscription_id: UUID
    kind: NoticeKind
    of: datetime
    package_id: UUID
    amount: int
    currency: str
    interval: str
    interval_count: int
    until: datetime | None = None
    next_at: datetime | None = None
    failure_code: str | None = None
    card: str = ""


def queue_notice(subscription: Subscription, kind: NoticeKind, of: datetime, card: str = "") -> None:
    """Queue a mail to the subscription's member. `of` is the moment that it is about. Part of the caller's
    transaction()."""
    details = NoticeDetails(
        store_id=subscription.store_id,
        subscription_id=subscription.id,
        kind=kind,
        of=of,
        package_id=subscription.package_id,
        amount=subscription.bill.amount if subscription.bill and kind != "card_expiring" else subscription.amount,
        currency=subscription.currency,
        interval=subscription.interval,
        interval_count=subscription.interval_count,
        until=subscription.access_until,
        next_at=subscription.next_charge_at or subscription.resumes_at,
        failure_code=subscription.bill.failure_code if subscription.bill else None,
        card=card,
    )
    enqueue(
        kinds.SUBSCRIPTION_NOTICE,
        msgspec.to_builtins(details),
        owner_id=subscription.user_id,
        store_id=subscription.store_id,
        priority=150,
        queue="bulk" if kind in _FORESEEN else None,
    )


def notice(args: Mapping[str, object]) -> Draft:
    """The mail that a job has to send: in the store's words if its member has verified the address and has not only
    been imported. Raises: PermanentFailure if its subscription or its member is gone, or if an address that gets no
    such words has reached its daily limit of mails."""
    details = msgspec.convert(args, NoticeDetails)
    values = {
        "store_id": details.store_id,
        "subscription_id": details.subscription_id,
        "package_id": details.package_id,
    }
    row = fetch_row(_ADDRESSEE, values)
    if row is None:
        raise PermanentFailure(NotFound("there is no such subscription"))
    store, contact, member, email, knows_store, package, timezone = row
    facts = Facts(
        subscription_id=details.subscription_id,
        store=store,
        contact_email=contact or "",
        member=member,
        package=package,
        amount=details.amount,
        currency=details.currency,
        timezone=timezone,
        of=details.of,
        until=details.until,
        next_at=details.next_at,
        failure_code=details.failure_code,
        card=details.card,
    )
    key = f"subscription:{details.subscription_id}:{details.kind}:{details.of.isoformat()}"
    if knows_store:
        return Draft(key, email, notice_message(details.kind, facts))
    count_mail(key, email)
    return Draft(key, email, plain_message(details.kind, facts, site=site()))
