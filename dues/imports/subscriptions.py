"""Subscriptions that a store brings along, with their dates kept. Part of the caller's transaction.

Nothing is charged and nobody is mailed now: what is due of a subscription follows from how it stands, and the first
that is due is its next renewal. A member's default payment method is theirs to lend: what was imported is charged to
the method that came with it, or to what its member says.
"""

from collections.abc import Sequence
from uuid import UUID

import ujson
from msgspec import UNSET
from msgspec.structs import replace

from dues.accounts.brought_along import Person
from dues.billing.subscribe import trial_mailbox
from dues.ids import new_id
from dues.imports.context import Importer, Outcomes, known_rows
from dues.imports.customers import enroll
from dues.imports.dates import place, time_of, wrong_dates
from dues.imports.rows import Refusal, SubscriptionRow
from dues.mail.address import normal_address
from dues.payments.gateways import SANDBOX
from dues.payments.methods import can_be_imported, keep_imported
from dues.postgres import fetch_row, run_later
from dues.subscriptions import state
from dues.subscriptions.subscription import LIVE, Subscription
from dues.subscriptions.terms import Terms
from dues.subscriptions.timeline import reminder_at

_PACKAGES = """
    select coalesce(json_object_agg(id, json_build_array(amount, currency, interval, interval_count)), '{}')::text
    from packages where store_id = %(store_id)s
        and id in (select value::uuid from jsonb_array_elements_text(%(ids)s::jsonb))
"""
# Those who have a subscription at the store, or are about to.
_MEMBERS = """
    select coalesce(json_agg(distinct user_id), '[]')::text from subscriptions
    where store_id = %(store_id)s and status = any(%(statuses)s::text[])
        and user_id in (select value::uuid from jsonb_array_elements_text(%(ids)s::jsonb))
"""
_MAILBOXES = """
    select coalesce(json_object_agg(id, email_normal), '{}')::text from users
    where id in (select value::uuid from jsonb_array_elements_text(%(ids)s::jsonb))
"""
_USE_TRIALS = """
    insert into trial_uses(store_id, mailbox, subscription_id, created_at)
    select %(store_id)s, decode(r.mailbox, 'hex'), r.id, r.at
    from jsonb_to_recordset(%(rows)s::jsonb) as r(mailbox text, id uuid, at timestamptz)
    order by r.mailbox on conflict do nothing
"""

_MEMBER = Refusal("already_subscribed", "this customer has a subscription at the store already")
_CHANGED = Refusal(
    "already_imported",
    "was imported before, and has changed in the file since: what becomes of a subscription is decided here by now",
    "/external_id",
)


def update_subscription(store: Importer, subscription_id: UUID, row: SubscriptionRow) -> Refusal | None:
    return _CHANGED


def create_subscriptions(store: Importer, rows: Sequence[SubscriptionRow]) -> Outcomes:
    found: dict[str, UUID | Refusal] = {}
    terms = _terms(store, rows)
    users = _users(store, [row for row in rows if isinstance(terms[row.external_id], Terms)])
    members = _members(store, [user for user in users.values() if isinstance(user, UUID)])
    made: list[tuple[SubscriptionRow, Subscription]] = []
    for row in rows:
        package = terms[row.external_id]
        user = package if isinstance(package, Refusal) else users[row.external_id]
        if isinstance(package, Refusal) or isinstance(user, Refusal):
            found[row.external_id] = user
            continue
        one = _MEMBER if user in members and row.status != "canceled" else _subscription(store, row, user, package)
        if isinstance(one, Refusal):
            found[row.external_id] = one
            continue
        made.append((row, one))
        found[row.external_id] = one.id
        if one.is_live:
            members.add(user)
    _write(store, made)
    return found


def _terms(store: Importer, rows: Sequence[SubscriptionRow]) -> dict[str, Terms | Refusal]:
    """What each has bought, at the price that it has."""
    named = [row.package_external_id for row in rows if isinstance(row.package_external_id, str)]
    known = known_rows(store.store_id, "packages", named)
    ids = {
        row.external_id: known[row.package_external_id][0] if row.package_external_id in known else row.package_id
        for row in rows
    }
    wanted = [str(package_id) for package_id in ids.values() if package_id is not UNSET]
    (text,) = fetch_row(_PACKAGES, {"store_id": store.store_id, "ids": ujson.dumps(wanted)}) or ("{}",)
    packages = ujson.loads(text)
    found: dict[str, Terms | Refusal] = {}
    for row in rows:
        package = packages.get(str(ids[row.external_id]))
        if (row.package_id is UNSET) == (row.package_external_id is UNSET):
            found[row.external_id] = _either("package_external_id", "package_id")
        elif package is None:
            name = "package_id" if row.package_external_id is UNSET else "package_external_id"
            found[row.external_id] = Refusal("not_found", f"/{name}: is no package of the store", f"/{name}")
        else:
            amount, currency, interval, count = package
            found[row.external_id] = Terms(
                package_id=UUID(str(ids[row.external_id])),
                amount=amount if row.amount is UNSET else row.amount,
                currency=currency,
                interval=interval,
                interval_count=count,
            )
    return found


def _users(store: Importer, rows: Sequence[SubscriptionRow]) -> dict[str, UUID | Refusal]:
    """Whose each is. Their money is locked."""
    named = [row.customer_external_id for row in rows if isinstance(row.customer_external_id, str)]
    known = known_rows(store.store_id, "customers", named)
    people = {
        normal_address(row.email): Person(row.email, row.email.partition("@")[0] if row.name is UNSET else row.name)
        for row in rows
        if isinstance(row.email, str) and row.customer_external_id is UNSET
    }
    enrolled = enroll(store, people)
    found: dict[str, UUID | Refusal] = {}
    for row in rows:
        if (row.email is UNSET) == (row.customer_external_id is UNSET):
            found[row.external_id] = _either("customer_external_id", "email")
        elif isinstance(row.email, str):
            missing = Refusal("not_usable", "/email: no account can be made for it", "/email")
            found[row.external_id] = enrolled.get(normal_address(row.email), missing)
        elif row.customer_external_id in known:
            found[row.external_id] = known[row.customer_external_id][0]
        else:
            detail = "/customer_external_id: no customer was imported under this name"
            found[row.external_id] = Refusal("not_found", detail, "/customer_external_id")
    return found


def _either(first: str, second: str) -> Refusal:
    return Refusal("required", f"/{first}: one of {first} and {second} is required, and not both", f"/{first}")


def _members(store: Importer, users: list[UUID]) -> set[UUID]:
    values = {"store_id": store.store_id, "ids": ujson.dumps([str(user) for user in users])}
    (found,) = fetch_row(_MEMBERS, values | {"statuses": [*LIVE, "incomplete"]}) or ("[]",)
    return {UUID(user) for user in ujson.loads(found)}


def _subscription(store: Importer, row: SubscriptionRow, user_id: UUID, terms: Terms) -> Subscription | Refusal:
    """The subscription as it stands."""
    if refusal := next(wrong_dates(row, terms, store.at, store.timezone), None):
        return refusal
    if isinstance(row.payment_method, str) and (refusal := _wrong_method(store, row.payment_method)):
        return refusal
    one = Subscription(
        store_id=store.store_id,
        id=new_id(),
        user_id=user_id,
        status=row.status,
        package_id=terms.package_id,
        amount=terms.amount,
        currency=terms.currency,
        interval=terms.interval,
        interval_count=terms.interval_count,
        anchor_at=row.started_at if row.anchor_at is UNSET else row.anchor_at,
        timezone=store.timezone,
        created_at=row.started_at,
        updated_at=store.at,
        test=store.test,
        current_period_start=row.started_at,
        cancel_at_period_end=row.cancel_at_period_end,
        uses_default_method=False,
    )
    end = time_of(row.trial_end if row.status == "trialing" else row.current_period_end)
    if row.trial_end is not UNSET:
        days = max(1, (row.trial_end - row.started_at).days)
        one = replace(one, trial_start=row.started_at, trial_end=row.trial_end, trial_days=days)
    if row.status != "trialing" and end:
        anchor, number, start = place(terms, one.anchor_at, one.timezone, end)
        # What was paid for a long time ahead is in that period already.
        start = start if start <= store.at else min(row.started_at, store.at)
        one = replace(one, anchor_at=anchor, period_number=number, current_period_start=start)
    if row.status == "canceled":
        ended_at = time_of(row.ended_at)
        return replace(one, current_period_end=end, ended_at=ended_at, access_until=ended_at)
    one = replace(one, current_period_end=end, has_access=True, access_until=end)
    reminder = reminder_at(one)
    # Nobody is mailed for what was imported: a reminder that would be due by now was for whoever sent it before.
    return replace(one, reminded_for=end) if reminder and reminder <= store.at else one


def _wrong_method(store: Importer, token: str) -> Refusal | None:
    """Why a store cannot charge a token when a subscription renews. What is at a gateway of its own is its members' to
    store there: no token of it can be taken over."""
    code, reason = "", ""
    if store.gateway.gateway != SANDBOX:
        code, reason = "wrong_gateway", "is of the sandbox, and this store has a gateway of its own"
    elif not store.gateway.accepts:
        code, reason = "sandbox_refused", "is of the sandbox, which charges nobody here"
    elif not can_be_imported(token):
        code, reason = "not_supported", "cannot be charged without its member"
    detail = f"/payment_method: {reason}: leave it out, and have its member say what to charge"
    return Refusal(code, detail, "/payment_method") if code else None


def _write(store: Importer, made: list[tuple[SubscriptionRow, Subscription]]) -> None:
    tokens = [
        (one.user_id, row.payment_method) for row, one in made if one.is_live and isinstance(row.payment_method, str)
    ]
    methods = keep_imported(store.store_id, tokens)
    written = state.record(
        [
            state.Change(
                before=None,
                after=replace(one, payment_method_id=methods.get(one.user_id) if one.is_live else None),
                kind="imported",
                at=store.at,
                actor_id=store.actor_id,
                details={"external_id": row.external_id},
            )
            for row, one in made
        ]
    )
    tried = [one for one in written if one.trial_end]
    if tried:
        (text,) = fetch_row(_MAILBOXES, {"ids": ujson.dumps([str(one.user_id) for one in tried])}) or ("{}",)
        mailboxes = ujson.loads(text)
        uses = [
            {"mailbox": trial_mailbox(mailboxes[str(one.user_id)]).hex(), "id": str(one.id), "at": str(one.created_at)}
            for one in tried
        ]
        run_later(_USE_TRIALS, {"store_id": store.store_id, "rows": ujson.dumps(uses)})
