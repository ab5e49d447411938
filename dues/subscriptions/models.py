"""Tables of customers, of subscriptions and their changes, and of used trials."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Computed, ForeignKey, ForeignKeyConstraint, Integer, LargeBinary, SmallInteger, Text
from sqlalchemy.dialects.postgresql import CHAR, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dues.accounts.models import User
from dues.postgres import Model
from dues.stores.models import Store


class Customer(Model):
    """A user who buys at a store. Whoever handles their money there locks this row. `name` and `email` are the ones
    that the store imported. The store sees these until the customer acts on their own, and then their own name and
    address."""

    __tablename__ = "customers"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    name: Mapped[str | None]
    email: Mapped[str | None]


class CustomerWord(Model):
    """A word by which a customer can be found: part of the name or the e-mail address that the store sees. Maintained
    by triggers."""

    __tablename__ = "customer_words"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "user_id"], ["customers.store_id", "customers.user_id"], ondelete="CASCADE"),
    )

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    word: Mapped[str] = mapped_column(Text(collation="C"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(primary_key=True)


class SubscriptionRow(Model):
    """A subscription as it is stored; see subscription.py. Written by state.py only."""

    __tablename__ = "subscriptions"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "package_id"], ["packages.store_id", "packages.id"]),
        ForeignKeyConstraint(["store_id", "user_id"], ["customers.store_id", "customers.user_id"]),
    )

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    status: Mapped[str]
    package_id: Mapped[UUID]
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(CHAR(3))
    interval: Mapped[str]
    interval_count: Mapped[int] = mapped_column(SmallInteger)
    anchor_at: Mapped[datetime]
    timezone: Mapped[str]
    trial_days: Mapped[int] = mapped_column(Integer)
    trial_refused: Mapped[bool]
    trial_start: Mapped[datetime | None]
    trial_end: Mapped[datetime | None]
    period_number: Mapped[int] = mapped_column(Integer)
    current_period_start: Mapped[datetime | None]
    current_period_end: Mapped[datetime | None]
    period_ends_at: Mapped[datetime] = mapped_column(Computed("coalesce(current_period_end, 'infinity')"))
    cancel_at_period_end: Mapped[bool]
    cancel_reason: Mapped[str | None]
    cancel_comment: Mapped[str | None]
    ended_at: Mapped[datetime | None]
    pending: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    pause_at: Mapped[datetime | None]
    resumes_at: Mapped[datetime | None]
    payment_method_id: Mapped[UUID | None]
    latest_payment_id: Mapped[UUID | None]
    bill: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    has_access: Mapped[bool]
    access_until: Mapped[datetime | None]
    reminded_for: Mapped[datetime | None]
    next_action_at: Mapped[datetime | None]
    next_charge_at: Mapped[datetime | None]
    next_charge_amount: Mapped[int | None]
    test: Mapped[bool]
    uses_default_method: Mapped[bool]
    version: Mapped[int]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class SubscriptionChange(Model):
    """One change of a subscription. `kind` says which, `actor_id` who made it (null if it was made by the passing of
    time). `mrr` is the subscription's monthly revenue after the change; `committed` is the same, but 0 if it is set to
    end. The `…_before` columns hold the values before the change. Rows are only ever added."""

    __tablename__ = "subscription_changes"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "subscription_id"], ["subscriptions.store_id", "subscriptions.id"]),
    )

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    subscription_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    actor_id: Mapped[UUID | None]
    from_status: Mapped[str | None]
    to_status: Mapped[str]
    details: Mapped[dict[str, Any]] = mapped_column(JSONB)
    created_at: Mapped[datetime]
    currency: Mapped[str | None] = mapped_column(CHAR(3))
    mrr_before: Mapped[int]
    mrr: Mapped[int]
    committed_before: Mapped[int]
    committed: Mapped[int]


class TrialUse(Model):
    """A mailbox, as a digest, that has had its trial at a store."""

    __tablename__ = "trial_uses"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    mailbox: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    subscription_id: Mapped[UUID]
    created_at: Mapped[datetime]
