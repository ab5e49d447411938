"""Tables of payments and their changes of status, of refunds, disputes, gateway accounts and stored payment methods."""

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
    """A payment. `id` is the key of the charge at the gateway. `job_id` is the job that processes it, or did last.
    `refunded_amount` counts completed refunds, not pending ones. `paid_at` is when it succeeded. Amounts are minor
    units.

    `payment_method` is a token, or the gateway's name of the stored method `payment_method_id`, which belongs to
    `gateway_customer`. `gateway_account_id` is the store's own account at the gateway, if it has one. `dispute` is what
    is shown of the latest dispute. `off_session`: the payer was not present when it was made.
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
    gateway_account_id: Mapped[UUID | None]
    gateway_customer: Mapped[str | None]
    gateway_ref: Mapped[str | None]
    failure_code: Mapped[str | None]
    next_action: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    dispute: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    refunded_amount: Mapped[int] = mapped_column(default=0)
    paid_at: Mapped[datetime | None]
    job_id: Mapped[UUID | None]
    confirmation_job_id: Mapped[UUID | None]


class PaymentEvent(Model):
    """One change of a payment's status. Rows are only ever added."""

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
    """A payer's stored method. `gateway_customer` and `gateway_ref` are the gateway's names of the payer and of the
    method. `store_id` is set if the method is valid in that store only, and null if it is valid everywhere."""

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
    """A refund. `id` is its key at the gateway. `settled_at` is when it succeeded or failed; `returned_at` is when a
    refund that had succeeded came back because the payer's bank could not accept it."""

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
    returned_at: Mapped[datetime | None]
    job_id: Mapped[UUID | None]


class DisputeRow(Versioned, Model):
    """A dispute: the payer's bank has taken back `amount` of a payment. If it is `won`, the store got the money
    back."""

    __tablename__ = "disputes"
    __table_args__ = (ForeignKeyConstraint(["store_id", "payment_id"], ["payments.store_id", "payments.id"]),)

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    payment_id: Mapped[UUID]
    gateway_ref: Mapped[str]
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(CHAR(3))
    reason: Mapped[str]
    status: Mapped[str]
    opened_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class GatewayAccount(Versioned, Model):
    """A store's account at a gateway; without one, the sandbox charges. `reference` is the gateway's name for the
    account. A former account has `replaced_at` set, and is kept for the payments made with it. The secrets are
    encrypted (dues/vault.py). `told_until` is how far the gateway's news have been read, by the gateway's clock."""

    __tablename__ = "gateway_accounts"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    type: Mapped[str]
    reference: Mapped[str | None]
    secret_key: Mapped[bytes | None]
    secret_key_last4: Mapped[str | None]
    webhook_secret: Mapped[bytes | None]
    webhook_secret_last4: Mapped[str | None]
    previous_webhook_secret: Mapped[bytes | None]
    previous_until: Mapped[datetime | None]
    publishable_key: Mapped[str | None]
    told_until: Mapped[datetime] = mapped_column(default=now)
    replaced_at: Mapped[datetime | None]


class GatewayCustomer(Model):
    """A user as a customer at a store's gateway."""

    __tablename__ = "gateway_customers"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "account_id"], ["gateway_accounts.store_id", "gateway_accounts.id"]),
    )

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    reference: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(default=now)


class GatewayEvent(Model):
    """A piece of news from a gateway, recorded so that it is acted on only once."""

    __tablename__ = "gateway_events"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    gateway: Mapped[str] = mapped_column(primary_key=True)
    event_id: Mapped[str] = mapped_column(primary_key=True)
    about: Mapped[str]
    name: Mapped[str]
    received_at: Mapped[datetime] = mapped_column(default=now)


class PaymentSetup(Versioned, Model):
    """The storing of a payment method at a store's own gateway. `id` is its key at the gateway."""

    __tablename__ = "payment_setups"
    __table_args__ = (
        ForeignKeyConstraint(["store_id", "account_id"], ["gateway_accounts.store_id", "gateway_accounts.id"]),
    )

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    account_id: Mapped[UUID]
    status: Mapped[str] = mapped_column(default="pending")
    is_default: Mapped[bool] = mapped_column(default=False)
    gateway_ref: Mapped[str | None]
    next_action: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    failure_code: Mapped[str | None]
    payment_method_id: Mapped[UUID | None]
    job_id: Mapped[UUID | None]
