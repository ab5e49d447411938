"""Disputes in the books: while a dispute is open, the money that the payer's bank has taken back is in the account
`disputed`. Money that was lost goes to `losses`; the invoice does not change."""

from dues.billing import books
from dues.billing.books import Booking, Entry, gateway
from dues.payments.disputes import Disputed, when_disputed


@when_disputed
def book_dispute(dispute: Disputed) -> None:
    """Book that a dispute has begun, or has another status."""
    payment, amount = dispute.payment, dispute.amount
    accounts = {"open": "disputed", "won": gateway(payment.gateway), "lost": "losses"}
    # Without a dispute the money is in the gateway's account, as it is after a dispute that was won.
    entries = Entry(accounts[dispute.status], amount), Entry(accounts[dispute.before or "won"], -amount)
    booking = Booking(
        store_id=payment.store_id,
        kind="dispute",
        source=f"dispute:{dispute.id}:{dispute.version}:{dispute.status}",
        user_id=payment.user_id,
        currency=payment.currency,
        at=dispute.at,
        entries=entries,
    )
    books.book([booking])
