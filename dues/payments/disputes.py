"""Disputes: a payer's bank has taken back a payment, and later decides who keeps the money.

    open -> won | lost, and from each of these to the others: a lost dispute may be appealed and won

This is the only place that writes their rows. What the gateway says now is recorded, whatever was known before: a
dispute that is already lost when we first hear of it is recorded as opened and then lost.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import cast
from uuid import UUID

from sqlalchemy import select

from dues.clock import rfc3339, store_now
from dues.errors import NotFound
from dues.events import emit
from dues.ids import new_id, parse_id
from dues.jobs import Retry, Run
from dues.payments.gateway import Dispute, DisputeStatus, GatewayTimeout
from dues.payments.models import DisputeRow, Payment
from dues.payments.processing import guarded_gateway
from dues.payments.reads import payments
from dues.payments.service import get_payment
from dues.payments.state import touch_payment
from dues.postgres import db, fetch_row

log = logging.getLogger("dues.payments")


@dataclass(frozen=True, slots=True)
class Disputed:
    """A change of a dispute of `payment`, which is locked. `before` is its previous status; None if it has just begun.
    `version` counts its changes. `amount` is in minor units."""

    payment: Payment
    id: UUID
    version: int
    before: DisputeStatus | None
    status: DisputeStatus
    at: datetime
    amount: int


_when_disputed: list[Callable[[Disputed], None]] = []


def when_disputed(hook: Callable[[Disputed], None]) -> Callable[[Disputed], None]:
    """Have `hook` called when a dispute's status changes, in the same transaction()."""
    _when_disputed.append(hook)
    return hook


# A reference comes from the store's own account, where it identifies one dispute.
_VERSION = "select version from disputes where store_id = %(store_id)s and gateway_ref = %(reference)s"


def check_dispute(run: Run, gateway: str, store_id: UUID, account_id: UUID | None, reference: str) -> None:
    """Ask the gateway about a dispute that it has news of, and record the answer. Raises: Retry if the gateway does not
    answer, or if the dispute was updated while it was asked, because that update may be newer than this answer."""
    known = fetch_row(_VERSION, {"store_id": store_id, "reference": reference})
    try:
        with guarded_gateway(gateway, store_id, account_id) as client:
            found = client.dispute(reference)
    except GatewayTimeout as timeout:
        raise Retry(problem=timeout) from timeout
    with run.completion():
        if found is not None:
            _record(store_id, account_id, found, known[0] if known else None)


def _record(store_id: UUID, account_id: UUID | None, found: Dispute, known: int | None) -> None:
    payment_id = parse_id(found.charge_key)
    try:
        payment = get_payment(store_id, payment_id) if payment_id else None
    except NotFound:
        payment = None
    if payment is None or payment.gateway_account_id != account_id:
        log.warning("dispute %s is of no payment of store %s", found.reference, store_id)
        return
    if payment.currency != found.currency or found.amount > payment.amount:
        log.error("dispute %s is of %s %s, and its payment is not", found.reference, found.amount, found.currency)
        return
    row = db.session.scalar(
        select(DisputeRow).where(
            DisputeRow.store_id == store_id,
            DisputeRow.payment_id == payment.id,
            DisputeRow.gateway_ref == found.reference,
        )
    )
    if (row and row.version) != known:
        raise Retry(after_s=0, problem="the dispute has changed meanwhile", charged=False)
    if row is None:
        row = _open(payment, found)
    if row.status != found.status:
        _change(payment, row, found.status)


def _open(payment: Payment, found: Dispute) -> DisputeRow:
    at = store_now(payment.store_id)
    row = DisputeRow(
        store_id=payment.store_id,
        id=new_id(),
        payment_id=payment.id,
        gateway_ref=found.reference,
        amount=found.amount,
        currency=found.currency,
        reason=found.reason,
        status="open",
        opened_at=at,
        created_at=at,
        updated_at=at,
    )
    db.session.add(row)
    _publish(payment, row, None, at)
    return row


def _change(payment: Payment, row: DisputeRow, status: DisputeStatus) -> None:
    at, before = store_now(payment.store_id), cast(DisputeStatus, row.status)
    # The previous status is written first, because each status has its own event.
    db.session.flush()
    row.status, row.closed_at, row.updated_at = status, None if status == "open" else at, at
    _publish(payment, row, before, at)


def _publish(payment: Payment, row: DisputeRow, before: DisputeStatus | None, at: datetime) -> None:
    payment.dispute = {
        "status": row.status,
        "amount": row.amount,
        "reason": row.reason,
        "opened_at": rfc3339(row.opened_at),
        "closed_at": rfc3339(row.closed_at) if row.closed_at else None,
    }
    payment.updated_at = at
    db.session.flush()
    emit(payment.store_id, "payment.disputed", payments, {"store_id": payment.store_id, "id": payment.id})
    touch_payment(payment.store_id, payment.user_id)
    status = cast(DisputeStatus, row.status)
    for hook in _when_disputed:
        hook(Disputed(payment, row.id, row.version, before, status, at, row.amount))
