"""Requests for payments and refunds, and the payer's confirmation. Each function is part of its caller's transaction,
which commits the row together with the job that will do the work. No gateway is called here."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType
from sqlalchemy import func, select

from dues.accounts.users import shows_users
from dues.clock import store_now
from dues.documents.deliveries import begin_delivery, count_recent
from dues.documents.service import get_file
from dues.errors import Conflict, Fault, InvalidTransition, NotFound, TooManyRequests, ValidationFailed
from dues.failpoints import failpoint
from dues.ids import new_id
from dues.jobs import enqueue, kinds
from dues.money import Currency, PositiveAmount
from dues.packages.models import Package
from dues.packages.service import require_price
from dues.payments.gateways import Chosen
from dues.payments.methods import Method, named_method
from dues.payments.models import Payment, Refund
from dues.payments.state import OpenPayment, move, open_payment, open_refund, refund_limit
from dues.postgres import db
from dues.stores.service import wrong_currency
from dues.text import OneLine

# How often one receipt may be mailed per day, including the first time.
MOST_DELIVERIES = 5
_DAY_S = 86_400

Description = Annotated[OneLine, Meta(max_length=500)]


class NewPayment(Struct, forbid_unknown_fields=True):
    """A payment for a package of the store, or of an amount: `package_id`, or `amount` and `currency`.

    `amount` and `currency` given together with `package_id` are the price that the payer has seen: if it has changed
    since, the payment is refused.
    """

    payment_method: Method
    package_id: UUID | UnsetType = UNSET
    amount: PositiveAmount | UnsetType = UNSET
    currency: Currency | UnsetType = UNSET
    description: Description | UnsetType = UNSET


class NewRefund(Struct, forbid_unknown_fields=True):
    """A refund of a payment: of `amount`, or of all that is left."""

    amount: PositiveAmount | UnsetType = UNSET
    reason: Description = ""


class Confirmation(Struct, forbid_unknown_fields=True):
    """What the payer did about a payment that requires their action."""

    outcome: Literal["succeed", "fail"]


@dataclass(frozen=True)
class Order:
    """An amount in minor units, and what it is for. `package_version` is 0 if it is not for a package."""

    amount: int
    currency: str
    description: str
    package_id: UUID | None = None
    package_version: int = 0


def read_order(store_id: UUID, new: NewPayment, currencies: Collection[str]) -> Order:
    """The amount and purpose of the payment that a request asks for, in a store that accepts `currencies`.

    Raises: ValidationFailed for a body that names neither a package nor an amount, for a package that is free or not
    the store's, or for a currency that the store does not accept; Conflict for a package that is archived, or whose
    price differs from the one in the request.
    """
    _check(new)
    if new.package_id is not UNSET:
        return _order_package(store_id, new.package_id, new, currencies)
    assert new.amount is not UNSET
    assert new.currency is not UNSET
    if new.currency not in currencies:
        raise wrong_currency("#/currency")
    return Order(new.amount, new.currency, new.description or "")


def _check(new: NewPayment) -> None:
    price = {"amount": new.amount, "currency": new.currency}
    missing = [name for name, value in price.items() if value is UNSET]
    if new.package_id is UNSET:
        faults = [_fault(name, "required", "is required where there is no package_id") for name in missing]
    else:
        faults = [_fault(name, "required", "goes with the rest of the price") for name in missing if len(missing) == 1]
        if new.description is not UNSET:
            faults.append(_fault("description", "conflict", "cannot be given together with package_id"))
    if faults:
        raise ValidationFailed.of_faults(faults)


def _fault(name: str, code: str, detail: str) -> Fault:
    return Fault(code=code, detail=detail, pointer=f"#/{name}")


def _order_package(store_id: UUID, package_id: UUID, new: NewPayment, currencies: Collection[str]) -> Order:
    package = db.session.get(Package, (store_id, package_id))
    if package is None:
        raise ValidationFailed.of("#/package_id", "is not a package of this store", "not_found")
    if package.archived_at:
        raise Conflict("the package is archived", code="package_archived")
    if package.amount == 0:
        raise ValidationFailed.of("#/package_id", "is a package that costs nothing", "free_of_charge")
    if package.currency not in currencies:
        raise wrong_currency("#/package_id")
    if new.amount is not UNSET:
        require_price(package, new.amount, new.currency)
    return Order(package.amount, package.currency, package.name, package.id, package.version)


def create_payment(store_id: UUID, user_id: UUID, order: Order, method: str, chosen: Chosen) -> OpenPayment:
    """Create a pending payment of `user_id`, and the job that will charge it.

    Raises: ValidationFailed for a payment method that is not the user's, or that the store cannot charge.
    """
    stored = named_method(user_id, store_id, method, chosen)
    payment_id = new_id()
    payment = OpenPayment(
        store_id=store_id,
        id=payment_id,
        user_id=user_id,
        package_id=order.package_id,
        amount=order.amount,
        currency=order.currency,
        description=order.description,
        payment_method=stored.gateway_ref if stored else method,
        payment_method_id=stored.id if stored else None,
        gateway=chosen.gateway,
        gateway_account_id=chosen.account_id,
        gateway_customer=stored.gateway_customer if stored else None,
        job_id=enqueue(
            kinds.PAYMENT_CHARGE,
            {"store_id": str(store_id), "payment_id": str(payment_id)},
            owner_id=user_id,
            store_id=store_id,
        ),
        created_at=store_now(store_id),
    )
    open_payment(payment)
    failpoint("payment.after_insert")
    return payment


def payment_args(payment: Payment) -> dict[str, str]:
    """The payment as arguments of a job."""
    return {"store_id": str(payment.store_id), "payment_id": str(payment.id)}


def get_payment(store_id: UUID, payment_id: UUID, user_id: UUID | None = None) -> Payment:
    """The payment, locked for this transaction. With `user_id`, only a payment of that user is found. Raises:
    NotFound."""
    # Its status is changed with SQL, so the session's copy may be outdated.
    payment = db.session.scalar(
        select(Payment)
        .where(Payment.store_id == store_id, Payment.id == payment_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
    if payment is None or (user_id is not None and payment.user_id != user_id):
        raise NotFound("there is no such payment")
    return payment


def confirm_payment(payment: Payment, confirmation: Confirmation) -> UUID:
    """Record that the payer of a locked payment has acted, and enqueue the job that tells the gateway. Returns: the
    job's id.

    Raises: InvalidTransition if no action is required.
    """
    if payment.status != "requires_action":
        raise InvalidTransition(f"a payment that is {payment.status} requires no action")
    job_id = enqueue(
        kinds.PAYMENT_CHARGE,
        payment_args(payment) | {"outcome": confirmation.outcome},
        owner_id=payment.user_id,
        store_id=payment.store_id,
    )
    move(payment.store_id, payment.id, "processing", "the payer has acted", job_id=job_id)
    return job_id


def create_refund(payment: Payment, requested_by: UUID, new: NewRefund) -> Refund:
    """Create a pending refund of a locked payment, and the job that will make it.

    Raises: InvalidTransition for a payment that has not succeeded or is fully refunded; Conflict if less than the
    amount is left, or if the payer's bank has taken the money back.
    """
    if payment.status not in ("succeeded", "partially_refunded"):
        raise InvalidTransition(f"a payment that is {payment.status} cannot be refunded")
    if payment.dispute and payment.dispute["status"] != "won":
        raise Conflict("the payer's bank has taken back what was paid: answer the dispute", code="payment_disputed")
    left = min(payment.amount - _refunded_or_pending(payment), refund_limit(payment))
    amount = left if new.amount is UNSET else new.amount
    if not 0 < amount <= left:
        raise Conflict(f"only {left} of the payment is left to refund", code="refund_exceeds_payment", refundable=left)
    refund = Refund(
        store_id=payment.store_id,
        id=new_id(),
        payment_id=payment.id,
        amount=amount,
        currency=payment.currency,
        reason=new.reason,
    )
    refund.job_id = enqueue(kinds.PAYMENT_REFUND, refund_args(refund), owner_id=requested_by, store_id=payment.store_id)
    open_refund(payment, refund)
    return refund


def send_receipt_again(payment: Payment, asked_by: UUID) -> tuple[UUID, UUID]:
    """Enqueue another mail of the receipt to its payer. Returns: the ids of the document and the job.

    Raises: NotFound if there is no receipt yet; TooManyRequests.
    """
    document = get_file(payment.store_id, "receipt", payment.id)
    count, wait_s = count_recent(document, _DAY_S)
    if count >= MOST_DELIVERIES:
        raise TooManyRequests(
            f"a receipt is sent at most {MOST_DELIVERIES} times a day", headers={"Retry-After": str(math.ceil(wait_s))}
        )
    job_id = enqueue(kinds.DOCUMENT_DELIVERY, payment_args(payment), owner_id=asked_by, store_id=payment.store_id)
    begin_delivery(document, job_id)
    return document.id, job_id


def refund_args(refund: Refund) -> dict[str, str]:
    """The refund as arguments of a job."""
    return {"store_id": str(refund.store_id), "refund_id": str(refund.id)}


def _refunded_or_pending(payment: Payment) -> int:
    """The sum of a payment's refunds, completed or pending. The payment is locked, so nobody adds to it."""
    given = db.session.scalar(
        select(func.coalesce(func.sum(Refund.amount), 0)).where(
            Refund.store_id == payment.store_id, Refund.payment_id == payment.id, Refund.status == "pending"
        )
    )
    return payment.refunded_amount + int(given or 0)


@shows_users
def customer_tags(user_id: UUID) -> list[str]:
    """The tags of all stores that have this user as a customer."""
    stores = db.session.scalars(select(Payment.store_id).where(Payment.user_id == user_id).distinct())
    return [f"store:{store_id}:customers" for store_id in stores]
