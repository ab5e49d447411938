"""The books, double entry: every movement of money is one transaction, by its source, whose entries add up to zero.

    gateway:<name>   what the store has at a payment gateway         revenue    what it has earned (below zero)
    balance          what it owes its members (below zero)           tax        what it owes the tax office (below zero)
    unapplied        what was paid and nobody owed, until it is given back (below zero)

PostgreSQL refuses a transaction that does not add up, and any change of one that is written. A second one of the same
source is refused, too: nothing is booked twice.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec

from dues.ids import new_id
from dues.postgres import run_later

Kind = Literal["invoice", "unapplied_payment", "refund", "unapplied_refund", "credit"]


class Entry(msgspec.Struct, frozen=True):
    """A debit of an account; a credit below zero."""

    account: str
    amount: int


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be booked of one source; entries of nothing are left out."""

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


def gateway(name: str) -> str:
    """The account of what a store has at a payment gateway."""
    return f"gateway:{name}"


def book(bookings: Sequence[Booking]) -> None:
    """Write bookings down. Part of the caller's transaction()."""
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
