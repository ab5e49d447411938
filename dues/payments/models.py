"""Tables of payments, of every change of their status, of refunds, and of stored payment methods."""

from datetime import datetime
from typing import Any, Literal, get_args
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, SmallInteger
from sqlalchemy.dialects.postgresql import CHAR, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dues.accounts.models import User
from dues.clock import now
from dues.postgres import Model, Versioned
from dues.stores.models import Store

PaymentStatus = Literal[
    "pending",
    "processing",
    "succeeded",
    "failed",
    "requires_action",
    "unknown",
    "partially_refunded",
    "refunded",
]
PAYMENT_STATUSES: tuple[PaymentStatus, ...] = get_args(PaymentStatus)

RefundStatus = Literal["pending", "succeeded", "failed"]
REFUND_STATUSES: tuple[RefundStatus, ...] = get_args(RefundStatus)


class Payment(Versioned, Model):
    """Its `id` is the key by which the gateway knows the charge. `job_id` is the job that moves it on, or last did;
    `refunded_amount` what was given back, not what is about to be. `paid_at` is when it succeeded.

    `payment_method` is a token, or the gateway's name of the stored method `payment_method_id`, which belongs to its
    `gateway_customer`. `off_session`: the payer was not there when it was made.
    """

    __tablename__ = "payments"
    __table_args__ = (ForeignKeyConstraint(["store_id", "package_id"], ["packages.store_id", "packages.id"]),)

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    package_id: Mapped[UUID | None]
    subscription_id: Mapped[UUID | None]
    invoice_id: Mapped[UUID | None]
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(CHAR(3))
    status: Mapped[str] = mapped_column(default="pending")
    description: Mapped[str] = mapped_column(default="")
    payment_method: Mapped[str]
    payment_method_id: Mapped[UUID | None]
    off_session: Mapped[bool] = mapped_column(default=False)
    gateway: Mapped[str]
    gateway_customer: Mapped[str | None]
    gateway_ref: Mapped[str | None]
    failure_code: Mapped[str | None]
    next_action: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    refunded_amount: Mapped[int] = mapped_column(default=0)
    paid_at: Mapped[datetime | None]
    job_id: Mapped[UUID | None]
    confirmation_job_id: Mapped[UUID | None]


class PaymentEvent(Model):
    """One change of a payment's status; rows are only ever added."""

    __tablename__ = "payment_events"
    __table_args__ = (ForeignKeyConstraint(["store_id", "payment_id"], ["payments.store_id", "payments.id"]),)

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    from_status: Mapped[str | None]
    to_status: Mapped[str]
    reason: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class PaymentMethod(Versioned, Model):
    """A payer's stored method. `gateway_customer` and `gateway_ref` are the gateway's names of the payer and of it;
    `store_id` is set where the gateway is one store's own, and null for one that serves all."""

    __tablename__ = "payment_methods"

    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    store_id: Mapped[UUID | None] = mapped_column(ForeignKey(Store.id))
    gateway: Mapped[str]
    gateway_customer: Mapped[str]
    gateway_ref: Mapped[str]
    type: Mapped[str] = mapped_column(default="card")
    brand: Mapped[str]
    last4: Mapped[str] = mapped_column(CHAR(4))
    exp_month: Mapped[int] = mapped_column(SmallInteger)
    exp_year: Mapped[int] = mapped_column(SmallInteger)
    is_default: Mapped[bool] = mapped_column(default=False)
    deleted_at: Mapped[datetime | None]


class Refund(Versioned, Model):
    """Its `id` is the key by which the gateway knows it. `settled_at` is when it succeeded or failed."""

    __tablename__ = "refunds"
    __table_args__ = (ForeignKeyConstraint(["store_id", "payment_id"], ["payments.store_id", "payments.id"]),)

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID]
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(CHAR(3))
    reason: Mapped[str] = mapped_column(default="")
    status: Mapped[str] = mapped_column(default="pending")
    gateway_ref: Mapped[str | None]
    failure_code: Mapped[str | None]
    settled_at: Mapped[datetime | None]
    job_id: Mapped[UUID | None]
