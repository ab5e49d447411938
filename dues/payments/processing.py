"""What workers do with payments: charge, refund, reconcile.

A worker may be killed at any line, and the job run again. So the gateway is called outside of transactions with an
idempotency key, and its answer is written in the transaction that also ends the job and enqueues the next one. A charge
is made once, by the run that finds the payment `pending`; a later run first asks the gateway for the result. If the
gateway does not answer, the payment becomes `unknown`: it is never charged again, and reconciliation finds out the
result.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import UUID

from sqlalchemy import select

from dues.breaker import Circuit
from dues.errors import NotFound
from dues.failpoints import failpoint
from dues.jobs import Ending, Retry, Run, enqueue, kinds, when_ended
from dues.observability.trace import Spanned
from dues.payments.confirmation import About
from dues.payments.gateway import Charge, Gateway, GatewayBusy, GatewayTimeout, Operation
from dues.payments.gateways import gateway_of
from dues.payments.models import Payment, PaymentStatus, Refund
from dues.payments.service import get_payment, payment_args, refund_args
from dues.payments.state import move, return_refund, settle_refund, touch_payment
from dues.postgres import db, transaction

log = logging.getLogger("dues.payments")

# How long after a missing answer the gateway is asked again.
_RECONCILE_AFTER_S = 5.0
# How long to wait before reminding a payer to act; most of them act at once.
_REMIND_AFTER_S = 600.0
# How long after a job has used up its attempts the next job begins. Most attempts were an hour apart.
_NEXT_JOB_AFTER_S = 3600.0


def charge(run: Run, store_id: UUID, payment_id: UUID, outcome: str | None = None) -> None:
    """Charge a payment; with `outcome` (`succeed` or `fail`), complete one that required an action of its payer.
    Raises: Retry."""
    with transaction():
        payment = get_payment(store_id, payment_id)
        if is_first := payment.status == "pending":
            move(store_id, payment_id, "processing", "its charge begins")
    if not is_first and payment.status != "processing":
        run.complete(_result(payment))
        return
    failpoint("payment.before_charge")
    run.check()
    operation = _ask_to_charge(payment, is_first, outcome)
    failpoint("payment.after_charge")
    with run.completion(_result(payment)):
        if operation is None:
            _leave_unknown(payment, "the gateway did not answer")
        else:
            _record_result(payment, operation)
        failpoint("payment.before_commit")
    failpoint("payment.after_commit")


def _ask_to_charge(payment: Payment, is_first: bool, outcome: str | None) -> Operation | None:
    """The result of the charge according to the gateway; None if it does not answer."""
    asked = charge_of(payment)
    try:
        with gateway_for(payment) as gateway:
            if outcome is not None:
                return gateway.confirm(asked, succeeds=outcome == "succeed")
            known = None if is_first else gateway.find(asked)
            return known or gateway.charge(asked)
    except GatewayTimeout as timeout:
        log.warning("payment %s: %s", payment.id, timeout.detail)
        return None


def charge_of(payment: Payment) -> Charge:
    """The charge that a payment asks of its gateway."""
    return Charge(
        key=str(payment.id),
        store_id=str(payment.store_id),
        amount=payment.amount,
        currency=payment.currency,
        method=payment.payment_method,
        customer=payment.gateway_customer,
        off_session=payment.off_session,
        reference=payment.gateway_ref or None,
    )


def gateway_for(payment: Payment) -> AbstractContextManager[Gateway]:
    """The payment's gateway, as a context manager. Raises: Retry, as `guarded_gateway()` does."""
    return guarded_gateway(payment.gateway, payment.store_id, payment.gateway_account_id)


@contextmanager
def guarded_gateway(name: str, store_id: UUID, account_id: UUID | None) -> Iterator[Gateway]:
    """A gateway behind a circuit breaker, which opens after repeated failures. Each account of a store has its own.

    Raises: Retry. It does not count as an attempt while the circuit is open; it does if the gateway refuses requests.
    """
    circuit = Circuit(f"gateway:{account_id or name}", threshold=10, first_s=1.0, longest_s=10.0)
    if circuit.wait_s():
        raise Retry(problem=GatewayTimeout("the gateway does not answer at present"), waits_for=circuit.name)
    try:
        with Spanned(f"gateway {name}", "client", {"peer.service": name}):
            yield gateway_of(name, store_id, account_id)
    except GatewayBusy as busy:
        circuit.failed()
        raise Retry(problem=busy) from busy
    except GatewayTimeout:
        circuit.failed()
        raise
    circuit.succeeded()


def _record_result(payment: Payment, operation: Operation) -> None:
    """Write the gateway's answer as the payment's status, in the transaction() that ends the job."""
    key = payment.store_id, payment.id
    match operation.outcome:
        case "succeeded":
            job_id = enqueue(
                kinds.PAYMENT_CONFIRMATION,
                payment_args(payment),
                owner_id=payment.user_id,
                store_id=payment.store_id,
                queue="bulk" if payment.off_session else None,
            )
            move(*key, "succeeded", "charged", gateway_ref=operation.reference, confirmation_job_id=job_id)
        case "declined":
            code = operation.failure_code
            move(*key, "failed", f"declined: {code}", gateway_ref=operation.reference, failure_code=code)
            _mail_payer(payment, "failed")
        case "requires_action":
            href = f"/v1/stores/{payment.store_id}/payments/{payment.id}/confirmations"
            action = {"type": "confirm", "method": "POST", "href": href} | dict(operation.action or {})
            move(*key, "requires_action", "its payer has to act", gateway_ref=operation.reference, next_action=action)
            _mail_payer(payment, "requires_action")


def _mail_payer(payment: Payment, about: About) -> None:
    """Enqueue the mail about a payment that failed or waits for its payer. Payments of subscriptions have other mails
    (dues/billing/notices.py)."""
    if payment.subscription_id is not None:
        return
    delay_s = _REMIND_AFTER_S if about == "requires_action" else 0.0
    enqueue(kinds.PAYMENT_NOTICE, payment_args(payment) | {"about": about}, store_id=payment.store_id, delay_s=delay_s)


def _leave_unknown(payment: Payment, reason: str) -> None:
    """Make the payment `unknown`, and enqueue its reconciliation; the client then follows that job."""
    job_id = _reconcile_after(payment, _RECONCILE_AFTER_S)
    move(payment.store_id, payment.id, "unknown", reason, job_id=job_id)


def _reconcile_after(payment: Payment, delay_s: float) -> UUID:
    return enqueue(
        kinds.PAYMENT_RECONCILE,
        payment_args(payment),
        owner_id=payment.user_id,
        store_id=payment.store_id,
        delay_s=delay_s,
        # Charges go first, because clients wait for them.
        priority=200,
    )


def reconcile(run: Run, store_id: UUID, payment_id: UUID) -> None:
    """Find out the result of a charge that the gateway did not answer. Raises: Retry if it still does not answer."""
    with transaction():
        payment = get_payment(store_id, payment_id)
    if payment.status != "unknown":
        run.complete(_result(payment))
        return
    failpoint("payment.before_close")
    try:
        with gateway_for(payment) as gateway:
            operation = gateway.close(charge_of(payment))
    except GatewayTimeout as timeout:
        raise Retry(problem=timeout) from timeout
    failpoint("payment.after_close")
    with run.completion(_result(payment)):
        if operation is None:
            move(store_id, payment_id, "failed", "the gateway never charged it", failure_code="gateway_timeout")
            _mail_payer(payment, "failed")
        else:
            _record_result(payment, operation)


def cancel(run: Run, store_id: UUID, payment_id: UUID) -> None:
    """End a payment whose payer has not acted in time: the gateway cancels the charge, or gives its final result.

    Raises: Retry if the gateway does not answer.
    """
    with transaction():
        payment = get_payment(store_id, payment_id)
        if is_waiting := payment.status == "requires_action":
            move(store_id, payment_id, "processing", "its payer is not waited for any more", job_id=run.job_id)
    # The payer may have acted just before.
    if not is_waiting and (payment.status, payment.job_id) != ("processing", run.job_id):
        run.complete(_result(payment))
        return
    try:
        with gateway_for(payment) as gateway:
            operation = gateway.close(charge_of(payment))
    except GatewayTimeout as timeout:
        raise Retry(problem=timeout) from timeout
    with run.completion(_result(payment)):
        if operation is None:
            move(store_id, payment_id, "failed", "its payer did not act", failure_code="authentication_failed")
        else:
            _record_result(payment, operation)


def check_charge(run: Run, store_id: UUID, payment_id: UUID) -> None:
    """Handle news of a charge: ask the gateway about a payment that waits for its payer or had failed.

    Raises: Retry if the gateway does not answer, or while another job works on the payment, because that job may have
    asked before the news.
    """
    try:
        with transaction():
            payment = get_payment(store_id, payment_id)
    except NotFound:
        # The payment may have been deleted, for example with a store's test data.
        run.complete(None)
        return
    if payment.status in ("pending", "processing"):
        raise Retry(problem="another job is at work on the payment")
    if payment.status == "unknown":
        reconcile(run, store_id, payment_id)
        return
    if payment.status not in ("requires_action", "failed"):
        run.complete(_result(payment))
        return
    try:
        with gateway_for(payment) as gateway:
            operation = gateway.find(charge_of(payment))
    except GatewayTimeout as timeout:
        raise Retry(problem=timeout) from timeout
    failpoint("payment.after_news")
    with run.completion(_result(payment)):
        present = get_payment(store_id, payment_id)
        is_done = operation is not None and operation.outcome != "requires_action"
        if operation is None or not is_done or present.status != payment.status:
            return
        if present.status == "requires_action":
            move(store_id, payment_id, "processing", "the gateway has news")
            _record_result(present, operation)
            failpoint("payment.before_news_commit")
        elif operation.outcome == "succeeded":
            log.error("payment %s had failed, and was charged after all: it is given back", payment_id)
            move(
                store_id,
                payment_id,
                "succeeded",
                "charged after it had failed",
                gateway_ref=operation.reference,
                is_late=True,
            )


def refund(run: Run, store_id: UUID, refund_id: UUID) -> None:
    """Make a refund. Raises: Retry if the gateway does not answer; under the same key it is made only once."""
    with transaction():
        due, payment = _get_refund(store_id, refund_id)
    if due.status != "pending":
        run.complete(_result(payment))
        return
    failpoint("payment.before_refund")
    run.check()
    try:
        with gateway_for(payment) as gateway:
            operation = gateway.refund(str(due.id), charge_of(payment), due.amount)
    except GatewayTimeout as timeout:
        raise Retry(problem=timeout) from timeout
    failpoint("payment.after_refund")
    with run.completion(_result(payment)):
        _settle(due, operation)
        failpoint("payment.before_refund_commit")


def check_refund(run: Run, store_id: UUID, refund_id: UUID) -> None:
    """Handle news of a refund: the payer's bank may have sent it back.

    Raises: Retry if the gateway does not answer, or while the refund is being made.
    """
    try:
        with transaction():
            due, payment = _get_refund(store_id, refund_id)
    except NotFound:
        run.complete(None)
        return
    if due.status == "pending":
        # The gateway may have answered the refund's job before the refund was sent back, and that answer may not be
        # written yet.
        raise Retry(problem="another job is at work on the refund")
    if due.status != "succeeded":
        run.complete(_result(payment))
        return
    try:
        with gateway_for(payment) as gateway:
            operation = gateway.find_refund(str(due.id), charge_of(payment))
    except GatewayTimeout as timeout:
        raise Retry(problem=timeout) from timeout
    with run.completion(_result(payment)):
        due, payment = _get_refund(store_id, refund_id)
        if due.status == "succeeded" and operation is not None and operation.outcome == "declined":
            log.error("refund %s was made, and the payer's bank has sent it back: %s", due.id, operation.failure_code)
            return_refund(payment, due, failure_code=operation.failure_code)


def _settle(due: Refund, operation: Operation) -> None:
    payment = get_payment(due.store_id, due.payment_id)
    if operation.outcome != "succeeded":
        settle_refund(payment, due.id, "failed", gateway_ref=operation.reference, failure_code=operation.failure_code)
        return
    settle_refund(payment, due.id, "succeeded", gateway_ref=operation.reference)
    is_all = payment.refunded_amount + due.amount == payment.amount
    to: PaymentStatus = "refunded" if is_all else "partially_refunded"
    move(payment.store_id, payment.id, to, f"refund {due.id}", refunded=due.amount)
    enqueue(
        kinds.PAYMENT_CONFIRMATION,
        payment_args(payment) | {"refund_id": str(due.id)},
        owner_id=payment.user_id,
        store_id=payment.store_id,
    )


def _get_refund(store_id: UUID, refund_id: UUID) -> tuple[Refund, Payment]:
    """A refund and its payment, which is locked. Raises: NotFound."""
    due = db.session.scalar(
        select(Refund)
        .where(Refund.store_id == store_id, Refund.id == refund_id)
        .execution_options(populate_existing=True)
    )
    if due is None:
        raise NotFound("there is no such refund")
    return due, get_payment(store_id, due.payment_id)


def _result(payment: Payment) -> dict[str, Any]:
    return {"href": f"/v1/stores/{payment.store_id}/payments/{payment.id}", "type": "application/json"}


@when_ended(kinds.PAYMENT_CHARGE)
def charge_given_up(ending: Ending) -> None:
    """The job failed permanently. Only the gateway knows whether the charge was made, so the payment is reconciled."""
    payment = _payment_of(ending)
    if payment.status == "pending":
        move(payment.store_id, payment.id, "processing", "its charge was given up")
    if payment.status in ("pending", "processing"):
        _leave_unknown(payment, "its charge was given up")


@when_ended(kinds.PAYMENT_CANCEL)
def cancellation_given_up(ending: Ending) -> None:
    """The job failed permanently. Only the gateway knows whether the charge was made, so the payment is reconciled."""
    payment = _payment_of(ending)
    if payment.status == "processing" and payment.job_id == ending.job_id:
        _leave_unknown(payment, "its cancellation was given up")


@when_ended(kinds.PAYMENT_RECONCILE)
def reconciliation_given_up(ending: Ending) -> None:
    """Reconciliation has used up its attempts: a new job continues later, so that no payment stays `unknown`."""
    payment = _payment_of(ending)
    if payment.status == "unknown":
        log.error("payment %s is still unknown after all attempts to find out", payment.id)
        payment.job_id = _reconcile_after(payment, _NEXT_JOB_AFTER_S)
        touch_payment(payment.store_id, payment.user_id)


@when_ended(kinds.PAYMENT_REFUND)
def refund_given_up(ending: Ending) -> None:
    """The refund's job failed permanently: a new one continues later, because the refund was promised, and may even
    have been made."""
    due, payment = _get_refund(UUID(ending.args["store_id"]), UUID(ending.args["refund_id"]))
    if due.status == "pending":
        log.error("refund %s is still pending after all attempts", due.id)
        due.job_id = enqueue(
            kinds.PAYMENT_REFUND, refund_args(due), store_id=payment.store_id, delay_s=_NEXT_JOB_AFTER_S
        )
        touch_payment(payment.store_id, payment.user_id)


def _payment_of(ending: Ending) -> Payment:
    return get_payment(UUID(ending.args["store_id"]), UUID(ending.args["payment_id"]))
