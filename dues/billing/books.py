"""The books, in double entry: every movement of money is one transaction, identified by its source, and its entries add
up to zero.

    gateway:<name>   what the store has at a payment gateway         revenue    what it has earned (negative)
    balance          what it owes its members (negative)             tax        what it owes the tax office (negative)
    unapplied        payments that nobody owed, until they are refunded (negative)
    disputed         money that payers' banks have taken back in disputes that are still open
    losses           money lost in disputes
    earlier          payments minus refunds from before there were books (negative)

PostgreSQL refuses a transaction that does not add up to zero, any change to a written transaction, and a second
transaction with the same source: so nothing is booked twice.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from dues.ids import new_id
from dues.postgres import fetch_row, run_later

Kind = Literal[
    "invoice", "unapplied_payment", "refund", "unapplied_refund", "returned_refund", "earlier", "credit", "dispute"
]


class Entry(msgspec.Struct, frozen=True):
    """An entry of an account in minor units: a debit, or a credit if the amount is negative."""

    account: str
    amount: int


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """A ledger transaction to be written. Entries with an amount of 0 are left out."""

    store_id: UUID
    kind: Kind
    source: str
    user_id: UUID
    currency: str
    at: datetime
    entries: tuple[Entry, ...]


_BOOK = """
    with transaction as (
        insert into ledger_transactions(store_id, id, kind, source, user_id, created_at)
        select store_id, id, kind, source, user_id, created_at
        from jsonb_populate_recordset(null::ledger_transactions, %(transactions)s::jsonb))
    insert into ledger_entries(store_id, transaction_id, position, account, amount, currency)
    select store_id, transaction_id, position, account, amount, currency
    from jsonb_populate_recordset(null::ledger_entries, %(entries)s::jsonb)
"""
# Payments without an invoice, and refunds, that are not in the books yet.
_OPEN = """
    with earlier as (
        select p.store_id, gen_random_uuid() as id, 'payment:' || p.id as source, p.user_id,
            coalesce(p.paid_at, p.created_at) as at, 'gateway:' || p.gateway as account, p.amount, p.currency
        from payments p
        where p.status in ('succeeded', 'partially_refunded', 'refunded')
            and not exists (select from invoices i where i.store_id = p.store_id and i.payment_id = p.id)
            and not exists (
                select from ledger_transactions t where t.store_id = p.store_id and t.source = 'payment:' || p.id)
        union all
        select r.store_id, gen_random_uuid(), 'refund:' || r.id, p.user_id, coalesce(r.settled_at, r.created_at),
            'gateway:' || p.gateway, -r.amount, r.currency
        from refunds r join payments p on p.store_id = r.store_id and p.id = r.payment_id
        where r.status = 'succeeded' and not exists (
            select from ledger_transactions t where t.store_id = r.store_id and t.source = 'refund:' || r.id)),
    opened as (
        insert into ledger_transactions(store_id, id, kind, source, user_id, created_at)
        select store_id, id, 'earlier', source, user_id, at from earlier)
    insert into ledger_entries(store_id, transaction_id, position, account, amount, currency)
    select store_id, id, 1, account, amount, currency from earlier
    union all select store_id, id, 2, 'earlier', -amount, currency from earlier
"""
_IS_EARLIER = """
    select from ledger_transactions
    where store_id = %(store_id)s and source = 'payment:' || %(payment_id)s and kind = 'earlier'
"""


def open_books() -> None:
    """Book the payments and refunds of rows that came without books: from an import, or from a release before there
    were any. Part of the caller's transaction()."""
    run_later(_OPEN, {})


def is_earlier(store_id: UUID, payment_id: UUID) -> bool:
    """Whether a payment dates from before there were books."""
    return fetch_row(_IS_EARLIER, {"store_id": store_id, "payment_id": str(payment_id)}) is not None


def gateway(name: str) -> str:
    """The name of the account for what a store has at a payment gateway."""
    return f"gateway:{name}"


def book(bookings: Sequence[Booking]) -> None:
    """Write ledger transactions. Part of the caller's transaction()."""
    transactions: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for booking in bookings:
        moving = [entry for entry in booking.entries if entry.amount]
        if not moving:
            continue
        row_id = new_id()
        transactions.append(
            {
                "store_id": booking.store_id,
                "id": row_id,
                "kind": booking.kind,
                "source": booking.source,
                "user_id": booking.user_id,
                "created_at": booking.at,
            }
        )
        entries += [
            {
                "store_id": booking.store_id,
                "transaction_id": row_id,
                "position": position,
                "account": entry.account,
                "amount": entry.amount,
                "currency": booking.currency,
            }
            for position, entry in enumerate(moving, 1)
        ]
    if transactions:
        values = {"transactions": transactions, "entries": entries}
        run_later(_BOOK, {name: msgspec.json.encode(rows).decode() for name, rows in values.items()})
