"""Bills: what a member owes for a subscription. Each bill is a draft invoice. It is collected by payments, one at a
time, until it is paid or void. This module decides what happens; a Posting writes it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from msgspec.structs import replace

from dues.billing import invoices, periods
from dues.billing.accounts import Account, Method
from dues.billing.balance import apply_balance
from dues.billing.invoices import Invoice, Line
from dues.billing.periods import Period
from dues.billing.posting import Posting
from dues.ids import new_id
from dues.jobs import enqueue, kinds
from dues.money import split_gross
from dues.payments.state import OpenPayment
from dues.postgres import fetch_row
from dues.subscriptions import machine
from dues.subscriptions.subscription import Bill, BillKind, Subscription

_JOB = "select job_id from payments where store_id = %(store_id)s and id = %(id)s"

NO_METHOD = "no_payment_method"


@dataclass(frozen=True, slots=True)
class Opened:
    """A bill that was opened: its draft invoice, and the subscription as it is afterwards."""

    subscription: Subscription
    draft: Invoice
    is_paid: bool


def open_bill(
    posting: Posting,
    subscription: Subscription,
    account: Account,
    kind: BillKind,
    lines: Sequence[Line],
    *,
    due: datetime,
    off_session: bool,
) -> Opened:
    """Draw up a bill that is due at `due`, and have it collected; if the amount due is 0, it is paid at once. The last
    of `lines` must be the line for the period being charged."""
    draft = _draft(posting, subscription, account, kind, lines)
    posting.draw_up(draft, lines)
    covered = _period(posting, subscription, lines[-1], draft.id)
    if kind == "renewal":
        posting.bill(covered)
    elif draft.amount_due == 0:
        posting.cover(covered)
    bill = Bill(invoice_id=draft.id, kind=kind, due_at=due, tried_at=due, amount=draft.amount_due)
    owing = machine.owing(subscription, bill)
    if draft.amount_due == 0:
        posting.settle(draft)
        return Opened(machine.paid(owing, posting.at), draft, True)
    return Opened(_collect(posting, owing, account, draft, off_session=off_session), draft, False)


def _draft(
    posting: Posting, subscription: Subscription, account: Account, kind: BillKind, lines: Sequence[Line]
) -> Invoice:
    total = sum(line.amount for line in lines)
    net, tax = split_gross(total, account.tax_rate)
    applied, due = apply_balance(total, account.balance, subscription.currency)
    last = lines[-1]
    return Invoice(
        store_id=subscription.store_id,
        id=new_id(),
        user_id=subscription.user_id,
        subscription_id=subscription.id,
        kind=kind,
        currency=subscription.currency,
        subtotal=net,
        tax=tax,
        tax_rate=account.tax_rate,
        total=total,
        balance_applied=applied,
        amount_due=due,
        period_start=last.period_start,
        period_end=last.period_end,
        created_at=posting.at,
        updated_at=posting.at,
    )


def _period(posting: Posting, subscription: Subscription, line: Line, invoice_id: UUID) -> Period:
    """The period that a line of a bill charges for."""
    assert line.package_id
    assert line.period_start
    return Period(
        store_id=subscription.store_id,
        subscription_id=subscription.id,
        starts_at=line.period_start,
        ends_at=line.period_end,
        package_id=line.package_id,
        amount=line.amount,
        currency=subscription.currency,
        invoice_id=invoice_id,
        created_at=posting.at,
    )


def _collect(
    posting: Posting, owing: Subscription, account: Account, draft: Invoice, *, off_session: bool
) -> Subscription:
    """Enqueue a charge of the open bill's amount. Without a payment method the bill is declined at once."""
    if account.method is None:
        return machine.declined(owing, NO_METHOD, posting.at, account.grace_days)
    payment = _payment(owing, account.method, draft, posting.at, account.package_name, off_session=off_session)
    posting.pay(payment)
    return replace(owing, latest_payment_id=payment.id)


def try_again(
    posting: Posting, subscription: Subscription, account: Account, at: datetime, *, manually: bool, off_session: bool
) -> Subscription:
    """Try once more to collect the open bill. The part that the balance covers by now is not charged. `at` is when this
    try was due. Raises: InvalidTransition if a try is already under way."""
    assert subscription.bill
    draft = invoices.load(subscription.store_id, subscription.bill.invoice_id)
    assert draft
    applied, due = apply_balance(draft.total, account.balance + draft.balance_applied, draft.currency)
    tried = machine.tried_again(subscription, at, due, manually=manually)
    if applied != draft.balance_applied:
        invoices.revise(draft, balance_applied=applied, at=posting.at)
        draft = replace(draft, balance_applied=applied, amount_due=due)
    if due == 0:
        posting.settle(draft)
        after = machine.paid(tried, posting.at)
        posting.after_write(lambda: settle_period(after, subscription, draft, None))
        return after
    return _collect(posting, tried, account, draft, off_session=off_session)


def void_bill(subscription: Subscription, at: datetime) -> None:
    """Void the open bill of a subscription, if there is one, and cancel its payment if that waits for the payer."""
    bill = subscription.bill
    if bill is None:
        return
    invoices.void(subscription.store_id, bill.invoice_id, subscription.user_id, at)
    periods.drop(subscription, bill.invoice_id)
    cancel_payment(subscription)


def job_of_payment(subscription: Subscription) -> UUID:
    """The id of the job that processes the latest payment of a subscription."""
    row = fetch_row(_JOB, {"store_id": subscription.store_id, "id": subscription.latest_payment_id})
    assert row
    job_id: UUID = row[0]
    return job_id


def cancel_payment(subscription: Subscription) -> None:
    """Cancel the open bill's payment if it waits for the payer to act."""
    if subscription.bill and subscription.bill.state == "waiting" and subscription.latest_payment_id:
        args = {"store_id": str(subscription.store_id), "payment_id": str(subscription.latest_payment_id)}
        enqueue(kinds.PAYMENT_CANCEL, args, owner_id=subscription.user_id, store_id=subscription.store_id)


def settle_period(after: Subscription, before: Subscription, draft: Invoice, payment_id: UUID | None) -> None:
    """Record the period that a paid bill has paid for. The subscription (as `after`) and the invoice must have been
    written already."""
    assert before.bill
    kind = before.bill.kind
    if kind == "renewal":
        periods.pay(after, draft.id, payment_id)
        return
    package_id, amount = invoices.charged(draft)
    start = draft.period_start if kind == "change" else after.current_period_start
    assert start
    period = Period(
        store_id=draft.store_id,
        subscription_id=after.id,
        starts_at=start,
        ends_at=after.current_period_end,
        package_id=package_id or after.package_id,
        amount=amount,
        currency=draft.currency,
        invoice_id=draft.id,
        payment_id=payment_id,
        created_at=after.updated_at,
    )
    periods.replace(period)


def _payment(
    subscription: Subscription, method: Method, draft: Invoice, at: datetime, description: str, *, off_session: bool
) -> OpenPayment:
    """A payment of an invoice's amount due, and the job that will charge it."""
    payment_id = new_id()
    return OpenPayment(
        store_id=subscription.store_id,
        id=payment_id,
        user_id=subscription.user_id,
        package_id=subscription.package_id,
        subscription_id=subscription.id,
        invoice_id=draft.id,
        amount=draft.amount_due,
        currency=subscription.currency,
        description=description,
        payment_method=method.gateway_ref,
        payment_method_id=method.id,
        off_session=off_session,
        gateway=method.gateway,
        gateway_account_id=method.account_id,
        gateway_customer=method.gateway_customer,
        job_id=enqueue(
            kinds.PAYMENT_CHARGE,
            {"store_id": str(subscription.store_id), "payment_id": str(payment_id)},
            owner_id=subscription.user_id,
            store_id=subscription.store_id,
            queue="bulk" if off_session else None,
        ),
        created_at=at,
    )
