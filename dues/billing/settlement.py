"""Settlement: when a payment ends, its invoice becomes final and the subscription continues, or it falls into arrears.

dues/payments/state.py calls this in the transaction that writes the payment's result. A payment that is no longer owed,
because the subscription has ended or was paid in another way meanwhile, is refunded.
"""

from dues.billing import bills, invoices
from dues.billing.accounts import account_of, lock_customer, lock_subscription
from dues.billing.books import Booking, Entry, book, gateway
from dues.billing.expiry import warn_of_expiry
from dues.billing.invoices import Invoice, Line
from dues.billing.posting import Posting
from dues.ids import new_id
from dues.money import split_gross
from dues.payments.service import NewRefund, create_refund, get_payment
from dues.payments.state import Settled, when_settled
from dues.pdf.language import words_of
from dues.postgres import fetch_row
from dues.subscriptions import machine
from dues.subscriptions.state import ChangeKind
from dues.subscriptions.subscription import BillKind, Subscription

_PAID: dict[BillKind, ChangeKind] = {"create": "activated", "change": "changed", "resume": "resumed"}
_IS_MEMBER = """
    select from subscriptions where store_id = %(store_id)s and user_id = %(user_id)s
        and status in ('trialing', 'active', 'past_due', 'paused')
"""
_SELLER = "select tax_rate, language from stores where id = %(store_id)s"


@when_settled
def payment_settled(payment: Settled) -> None:
    """Update the invoice and the subscription of a payment that has succeeded, failed, or waits for its payer."""
    if payment.is_late:
        _refund_unowed(payment)
        return
    if payment.subscription_id is None or payment.invoice_id is None:
        if payment.status == "succeeded":
            _invoice_payment(payment)
        return
    subscription = lock_subscription(payment.store_id, payment.subscription_id)
    draft = invoices.load(payment.store_id, payment.invoice_id)
    assert draft
    posting = Posting(payment.at)
    match payment.status:
        case "succeeded":
            _succeeded(posting, subscription, draft, payment)
        case "failed" if _is_current(subscription, payment):
            _failed(posting, subscription, draft, payment)
        case "requires_action" if _is_current(subscription, payment):
            posting.change(subscription, machine.waiting(subscription), "payer_asked")
    posting.write()


def _is_current(subscription: Subscription, payment: Settled) -> bool:
    """Whether this payment is the one that the open bill waits for."""
    bill = subscription.bill
    is_of_it = bill is not None and bill.invoice_id == payment.invoice_id and bill.is_in_flight
    return is_of_it and subscription.latest_payment_id == payment.id


def _succeeded(posting: Posting, subscription: Subscription, draft: Invoice, payment: Settled) -> None:
    if draft.status != "draft" or subscription.bill is None or subscription.bill.invoice_id != draft.id:
        _refund_unowed(payment)
        return
    if subscription.bill.kind == "create" and _is_member(subscription):
        # Two subscriptions were requested at the same time, and the other one was paid first.
        bills.void_bill(subscription, posting.at)
        posting.change(
            subscription, machine.over(subscription, posting.at), "expired", {"reason": "already_subscribed"}
        )
        posting.write()
        _refund_unowed(payment)
        return
    kind = subscription.bill.kind
    after = machine.paid(subscription, posting.at)
    posting.settle(draft, payment_id=payment.id, by=payment.gateway)
    paid: ChangeKind = "recovered" if subscription.status == "past_due" else _PAID.get(kind, "paid")
    posting.change(subscription, after, paid)
    if kind in ("change", "resume"):
        assert after.current_period_start
        posting.notify(after, "changed" if kind == "change" else "resumed", subscription.bill.due_at)
    if kind in ("create", "resume"):
        warn_of_expiry(posting, after, account_of(subscription))
    posting.write()
    bills.settle_period(after, subscription, draft, payment.id)


def _failed(posting: Posting, subscription: Subscription, draft: Invoice, payment: Settled) -> None:
    assert subscription.bill
    after = machine.declined(subscription, payment.failure_code, posting.at, account_of(subscription).grace_days)
    details = {"failure_code": payment.failure_code, "payment_id": str(payment.id)}
    if subscription.bill.kind == "change":
        invoices.void(draft.store_id, draft.id, draft.user_id, posting.at)
        posting.change(subscription, after, "change_withdrawn", details)
        return
    if after.is_over:
        bills.void_bill(subscription, posting.at)
        posting.change(subscription, after, "ended", details)
        posting.notify(after, "ended", posting.at)
        return
    in_arrears = after.status == "past_due" and subscription.status != "past_due"
    posting.change(subscription, after, "past_due" if in_arrears else "declined", details)
    if after.status == "past_due":
        posting.notify(after, "payment_failed", subscription.bill.tried_at)


def _is_member(subscription: Subscription) -> bool:
    return fetch_row(_IS_MEMBER, {"store_id": subscription.store_id, "user_id": subscription.user_id}) is not None


def _refund_unowed(payment: Settled) -> None:
    """Book a payment that is not owed as unapplied, and refund it."""
    book(
        [
            Booking(
                store_id=payment.store_id,
                kind="unapplied_payment",
                source=f"payment:{payment.id}",
                user_id=payment.user_id,
                currency=payment.currency,
                at=payment.at,
                entries=(Entry(gateway(payment.gateway), payment.amount), Entry("unapplied", -payment.amount)),
            )
        ]
    )
    found = get_payment(payment.store_id, payment.id)
    create_refund(found, payment.user_id, NewRefund(reason="not owed any more"))


def _invoice_payment(payment: Settled) -> None:
    """A payment without a subscription: draw up its invoice, which is final at once."""
    lock_customer(payment.store_id, payment.user_id, payment.at, by_member=True)
    posting = Posting(payment.at)
    tax_rate, language = fetch_row(_SELLER, {"store_id": payment.store_id}, hot=True) or (0, "en")
    net, tax = split_gross(payment.amount, tax_rate)
    invoice = Invoice(
        store_id=payment.store_id,
        id=new_id(),
        user_id=payment.user_id,
        payment_id=payment.id,
        kind="payment",
        currency=payment.currency,
        subtotal=net,
        tax=tax,
        tax_rate=tax_rate,
        total=payment.amount,
        balance_applied=0,
        amount_due=payment.amount,
        created_at=payment.at,
        updated_at=payment.at,
    )
    line = Line(
        description=payment.description or words_of(language)("Payment"),
        amount=payment.amount,
        package_id=payment.package_id,
    )
    posting.draw_up(invoice, [line])
    posting.settle(invoice, payment_id=payment.id, by=payment.gateway)
    posting.write()
