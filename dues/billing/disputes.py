"""Disputes in the books: what the payer's bank has taken away is `disputed` until it is decided; what is lost is a
loss, and the invoice stays as it was."""

from dues.billing import books
from dues.billing.books import Booking, Entry, gateway
from dues.payments.disputes import Disputed, when_disputed


@when_disputed
def book_dispute(dispute: Disputed) -> None:
    payment, amount = dispute.payment, dispute.amount
    accounts = {"open": "disputed", "won": gateway(payment.gateway), "lost": "losses"}
    # Before a dispute, the money is in the same account as after a dispute that was won.
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
