"""Disputes: a payer's bank has taken back what was paid, and decides in the end who keeps it.

    open -> won | lost, and from each of them to the others: what is lost may be appealed, and won

The one place that writes their rows. What the gateway says now is written down, whatever was heard of before: a dispute
that is first heard of when it is lost has been opened and lost.
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
from dues.payments.processing import asking
from dues.payments.reads import payments
from dues.payments.service import get_payment
from dues.payments.state import touch_payment
from dues.postgres import db, fetch_row

log = logging.getLogger("dues.payments")


@dataclass(frozen=True, slots=True)
class Disputed:
    """What has become of a dispute of `payment`, which is locked. `before` is what it was until then, None where it
    has just begun; `version` counts what has become of it."""

    payment: Payment
    id: UUID
    version: int
    before: DisputeStatus | None
    status: DisputeStatus
    at: datetime
    amount: int


_when_disputed: list[Callable[[Disputed], None]] = []


def when_disputed(hook: Callable[[Disputed], None]) -> Callable[[Disputed], None]:
    """Have `hook` called, in the same transaction(), when a dispute has another status."""
    _when_disputed.append(hook)
    return hook


# Of a reference that the store's account gave, which is one dispute's.
_VERSION = "select version from disputes where store_id = %(store_id)s and gateway_ref = %(reference)s"


def look_at_dispute(run: Run, gateway: str, store_id: UUID, account_id: UUID | None, reference: str) -> None:
    """The gateway has news of a dispute. Raises: Retry while it does not say which, and where somebody else has heard
    of the dispute while it was asked: what they wrote may be newer than its answer."""
    known = fetch_row(_VERSION, {"store_id": store_id, "reference": reference})
    try:
        with asking(gateway, store_id, account_id) as asked:
            found = asked.dispute(reference)
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
    _tell(payment, row, None, at)
    return row


def _change(payment: Payment, row: DisputeRow, status: DisputeStatus) -> None:
    at, before = store_now(payment.store_id), cast(DisputeStatus, row.status)
    # What it was is written first: each state has its event.
    db.session.flush()
    row.status, row.closed_at, row.updated_at = status, None if status == "open" else at, at
    _tell(payment, row, before, at)


def _tell(payment: Payment, row: DisputeRow, before: DisputeStatus | None, at: datetime) -> None:
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
