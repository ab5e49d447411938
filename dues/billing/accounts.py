"""A member's account at a store: the balance, the payment method, and the store's billing settings.

Code that handles a member's money at a store locks their row of `customers` first, then the subscription, then anything
else. A single lock order prevents deadlocks.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

import msgspec

from dues.accounts.brought_along import Person
from dues.errors import NotFound
from dues.payments.gateways import CAN_CHARGE, sandbox_is_open
from dues.postgres import fetch_row, run_later, unit_of_work
from dues.reads.tags import touch
from dues.subscriptions import state
from dues.subscriptions.subscription import Subscription


class Method(msgspec.Struct, frozen=True):
    """A stored payment method, with the columns that a payment takes over, and the gateway account that the store
    charges it through."""

    id: UUID
    gateway: str
    account_id: UUID | None
    gateway_customer: str
    gateway_ref: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int

    def is_expired_at(self, moment: datetime) -> bool:
        """Whether the card has expired at `moment`: a card is valid until the end of its last month."""
        return (moment.year, moment.month) > (self.exp_year, self.exp_month)


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """What billing needs to know about a member of a store, for one of their subscriptions.

    `balance` is the part of the member's credit, in minor units of the subscription's currency, that no open bill has
    reserved yet. `method` is what gets charged: the subscription's own method, or else the member's default. `tax_rate`
    is in parts per million. `pending_name` is the name of the package that the subscription will change to, if any.
    """

    subscription_id: UUID
    balance: int
    method: Method | None
    grace_days: int
    tax_rate: int
    dunning: Literal["cancel", "stay"]
    package_name: str
    pending_name: str | None


_BALANCE = """
    (select coalesce(sum(c.amount), 0) from credits c
        where c.store_id = {store} and c.user_id = {s}.user_id and c.currency = {s}.currency)
    - (select coalesce(sum(i.balance_applied), 0) from invoices i
        where i.store_id = {store} and i.user_id = {s}.user_id and i.currency = {s}.currency
            and i.status = 'draft')
"""
_ACCOUNTS = f"""
    select coalesce(json_agg(json_build_object(
        'subscription_id', k.id,
        'balance', {_BALANCE.format(s="k", store="{store}")},
        'method', (select json_build_object('id', m.id, 'gateway', m.gateway, 'account_id', g.id,
                'gateway_customer', m.gateway_customer, 'gateway_ref', m.gateway_ref, 'brand', m.brand,
                'last4', m.last4, 'exp_month', m.exp_month, 'exp_year', m.exp_year)
            from payment_methods m
            where m.user_id = k.user_id and m.deleted_at is null
                and (m.id = k.payment_method_id or m.is_default and k.uses_default_method)
                and {CAN_CHARGE}
            order by m.id is not distinct from k.payment_method_id desc, m.store_id is null limit 1),
        'grace_days', s.grace_days, 'tax_rate', s.tax_rate, 'dunning', s.dunning,
        'package_name', p.name, 'pending_name', q.name)), '[]')::text
    from jsonb_populate_recordset(null::subscriptions, %(rows)s::jsonb) k
    join stores s on s.id = k.store_id
    left join gateway_accounts g on g.store_id = k.store_id and g.replaced_at is null
    join packages p on p.store_id = k.store_id and p.id = k.package_id
    left join packages q on q.store_id = k.store_id and q.id = (k.pending ->> 'package_id')::uuid
"""
# Of one store, which is said as a value: a database that is spread over several servers then knows where to look.
_OF_STORE, _OF_STORES = _ACCOUNTS.format(store="%(store_id)s"), _ACCOUNTS.format(store="k.store_id")
_LOCK_CUSTOMER = """
    insert into customers as c (store_id, user_id, version, created_at, updated_at)
    values (%(store_id)s, %(user_id)s, 1, %(at)s, %(at)s)
    on conflict (store_id, user_id) do update set
        version = c.version + (c.name is not null and %(by_member)s)::int,
        name = case when not %(by_member)s then c.name end, email = case when not %(by_member)s then c.email end
    returning created_at = %(at)s
"""
_LOCK_IMPORTED = """
    insert into customers as c (store_id, user_id, name, email, version, created_at, updated_at)
    select %(store_id)s, r.user_id, r.name, r.email, 1, %(at)s, %(at)s
    from jsonb_to_recordset(%(rows)s::jsonb) as r(user_id uuid, name text, email text) order by r.user_id
    on conflict (store_id, user_id) do update set version = c.version returning 1
"""
_COME = """
    update customers set name = null, email = null, version = version + 1, updated_at = %(at)s
    where store_id = %(store_id)s and user_id = %(user_id)s and name is not null
"""
_USER_OF = "select user_id from subscriptions where store_id = %(store_id)s and id = %(id)s"
_LOCK = "select from customers where store_id = %(store_id)s and user_id = %(user_id)s for update"


def lock_customer(store_id: UUID, user_id: UUID, at: datetime, *, by_member: bool = False) -> None:
    """Lock a member's money at a store; the user becomes a customer of the store if they are not one yet. Part of the
    caller's transaction().

    `by_member`: the member has acted on their own. From then on the store sees their own name and address instead of
    the ones that it imported.
    """
    unit_of_work()
    values = {"store_id": store_id, "user_id": user_id, "at": at, "by_member": by_member}
    fetch_row(_LOCK_CUSTOMER, values, hot=True)
    touch(f"store:{store_id}:customers", f"user:{user_id}")


def come(store_id: UUID, user_id: UUID, at: datetime) -> None:
    """A member whom the store may only have imported has acted on their own, as in `lock_customer()`; their money is
    locked already. Part of the caller's transaction()."""
    unit_of_work()
    run_later(_COME, {"store_id": store_id, "user_id": user_id, "at": at})
    touch(f"store:{store_id}:customers", f"user:{user_id}")


def lock_imported(store_id: UUID, people: Mapping[UUID, Person], at: datetime) -> None:
    """Lock the money of many members whom a store imports, given by their user ids. For each new customer, the name and
    address that the store supplied are kept. Part of the caller's transaction()."""
    rows = [{"user_id": user_id, **person._asdict()} for user_id, person in people.items()]
    values = {"store_id": store_id, "at": at, "rows": msgspec.json.encode(rows).decode()}
    unit_of_work()
    fetch_row(_LOCK_IMPORTED, values, hot=True)
    touch(f"store:{store_id}:customers", *(f"user:{user_id}" for user_id in people))


def lock_subscription(store_id: UUID, subscription_id: UUID, user_id: UUID | None = None) -> Subscription:
    """The subscription, locked together with its member's money. With `user_id`, only a subscription of that user is
    found. Raises: NotFound."""
    unit_of_work()
    found = fetch_row(_USER_OF, {"store_id": store_id, "id": subscription_id}, hot=True)
    if found is None or (user_id is not None and found[0] != user_id):
        raise NotFound("there is no such subscription")
    fetch_row(_LOCK, {"store_id": store_id, "user_id": found[0]}, hot=True)
    subscription = state.load(store_id, subscription_id)
    assert subscription
    return subscription


def accounts_of(subscriptions: Sequence[Subscription]) -> dict[UUID, Account]:
    """The accounts of the members of locked subscriptions, by the subscription's id."""
    values = {"rows": msgspec.json.encode(subscriptions).decode(), "sandbox_is_open": sandbox_is_open()}
    stores = {subscription.store_id for subscription in subscriptions}
    if len(stores) == 1:
        row = fetch_row(_OF_STORE, {**values, "store_id": stores.pop()}, hot=True)
    else:
        row = fetch_row(_OF_STORES, values, hot=True)
    (document,) = row or ("[]",)
    found = msgspec.json.decode(document, type=list[Account])
    return {account.subscription_id: account for account in found}


def account_of(subscription: Subscription) -> Account:
    """The account of the member of one locked subscription."""
    return accounts_of([subscription])[subscription.id]
