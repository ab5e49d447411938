"""Tables of invoices, credit notes, balances and the books. They are written with SQL, by the modules of the same
names."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Integer, SmallInteger
from sqlalchemy.dialects.postgresql import CHAR, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dues.accounts.models import User
from dues.postgres import Model
from dues.stores.models import Store
from dues.subscriptions.models import SubscriptionRow


class NumberCounter(Model):
    """The last number that a store has assigned in one of its series."""

    __tablename__ = "number_counters"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    series: Mapped[str] = mapped_column(primary_key=True)
    last: Mapped[int]


class Invoice(Model):
    """An invoice. A `draft` is being collected. Once it has its number it is final, and `seller` and `buyer` record who
    sold to whom at that time. `balance_applied` is the part of its total that was taken from the member's balance
    (negative: added to it); `credited` is what was given back since. Amounts are minor units."""

    __tablename__ = "invoices"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "subscription_id"], [SubscriptionRow.store_id, SubscriptionRow.id]),
    )

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    subscription_id: Mapped[UUID | None]
    payment_id: Mapped[UUID | None]
    kind: Mapped[str]
    status: Mapped[str]
    sequence: Mapped[int | None]
    number: Mapped[str | None]
    currency: Mapped[str] = mapped_column(CHAR(3))
    subtotal: Mapped[int]
    tax: Mapped[int]
    tax_rate: Mapped[int]
    total: Mapped[int]
    balance_applied: Mapped[int]
    amount_due: Mapped[int]
    credited: Mapped[int]
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]
    seller: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    buyer: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    issued_at: Mapped[datetime | None]
    voided_at: Mapped[datetime | None]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class InvoiceLine(Model):
    __tablename__ = "invoice_lines"
    __table_args__ = (ForeignKeyConstraint(["store_id", "invoice_id"], [Invoice.store_id, Invoice.id]),)

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    description: Mapped[str]
    amount: Mapped[int]
    quantity: Mapped[int] = mapped_column(Integer)
    package_id: Mapped[UUID | None]
    period_start: Mapped[datetime | None]
    period_end: Mapped[datetime | None]


class CreditNote(Model):
    """A correction of a final invoice, given back by a refund or to the member's balance."""

    __tablename__ = "credit_notes"
    __table_args__ = (ForeignKeyConstraint(["store_id", "invoice_id"], [Invoice.store_id, Invoice.id]),)

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    invoice_id: Mapped[UUID]
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    refund_id: Mapped[UUID | None]
    status: Mapped[str]
    sequence: Mapped[int | None]
    number: Mapped[str | None]
    currency: Mapped[str] = mapped_column(CHAR(3))
    subtotal: Mapped[int]
    tax: Mapped[int]
    total: Mapped[int]
    reason: Mapped[str]
    issued_at: Mapped[datetime | None]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class SubscriptionPeriod(Model):
    """What was charged for a span of time: a period, or the rest of one after a change of package."""

    __tablename__ = "subscription_periods"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "subscription_id"], [SubscriptionRow.store_id, SubscriptionRow.id]),
        ForeignKeyConstraint(["store_id", "invoice_id"], [Invoice.store_id, Invoice.id]),
    )

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    subscription_id: Mapped[UUID] = mapped_column(primary_key=True)
    starts_at: Mapped[datetime] = mapped_column(primary_key=True)
    ends_at: Mapped[datetime | None]
    package_id: Mapped[UUID]
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(CHAR(3))
    invoice_id: Mapped[UUID]
    payment_id: Mapped[UUID | None]
    created_at: Mapped[datetime]


class Credit(Model):
    """An entry of a member's balance at a store: money given, or (negative) used. Rows are only ever added."""

    __tablename__ = "credits"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "user_id"], ["customers.store_id", "customers.user_id"]),
        ForeignKeyConstraint(["store_id", "invoice_id"], [Invoice.store_id, Invoice.id]),
        ForeignKeyConstraint(["store_id", "credit_note_id"], [CreditNote.store_id, CreditNote.id]),
    )

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID]
    currency: Mapped[str] = mapped_column(CHAR(3))
    amount: Mapped[int]
    kind: Mapped[str]
    invoice_id: Mapped[UUID | None]
    credit_note_id: Mapped[UUID | None]
    created_at: Mapped[datetime]


class LedgerTransaction(Model):
    """One movement of money, identified by its source, which is written once. Rows are only ever added."""

    __tablename__ = "ledger_transactions"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    source: Mapped[str]
    user_id: Mapped[UUID | None]
    created_at: Mapped[datetime]


class LedgerEntry(Model):
    """A debit, or (negative) a credit, of an account. The entries of a transaction add up to zero in each currency."""

    __tablename__ = "ledger_entries"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "transaction_id"], [LedgerTransaction.store_id, LedgerTransaction.id]),
    )

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    transaction_id: Mapped[UUID] = mapped_column(primary_key=True)
    position: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    account: Mapped[str]
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(CHAR(3))
