"""The writes of one unit of work: collected first, then made with one statement per table, however many rows there are.

posting = Posting(at)
subscription = bills.open_bill(posting, subscription, account, …).subscription
posting.change(before, subscription, "renewed")
posting.write()
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from dues.billing import books, invoices, periods
from dues.billing.books import Booking, Entry, gateway
from dues.billing.invoices import Invoice, Line
from dues.billing.notices import NoticeKind, queue_notice
from dues.billing.periods import Period
from dues.ids import new_id
from dues.payments.state import OpenPayment, open_payment
from dues.postgres import run_later
from dues.subscriptions import state
from dues.subscriptions.state import Change, ChangeKind
from dues.subscriptions.subscription import Subscription

_CREDIT = """
    insert into credits select * from jsonb_populate_recordset(null::credits, %(rows)s::jsonb)
"""


class Posting:
    """Writes that belong to one transaction(), at the moment `at` of the store's time. It holds at most one change of
    each subscription. `actor_id` is the user who makes the changes, if any."""

    def __init__(self, at: datetime, actor_id: UUID | None = None) -> None:
        self.at, self._actor_id = at, actor_id
        self._start_empty()

    def _start_empty(self) -> None:
        self._changes: list[Change] = []
        self._drafts: list[tuple[Invoice, Sequence[Line]]] = []
        self._periods: list[Period] = []
        self._replaced: list[Period] = []
        self._payments: list[OpenPayment] = []
        self._paid: list[invoices.Payment] = []
        self._bookings: list[Booking] = []
        self._credits: list[dict[str, Any]] = []
        self._notices: list[tuple[Subscription, NoticeKind, datetime, str]] = []
        self._after: list[Callable[[], None]] = []

    def change(
        self,
        before: Subscription | None,
        after: Subscription,
        kind: ChangeKind,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Record a change of a subscription, with its entry in the log of changes."""
        change = Change(
            before=before, after=after, kind=kind, at=self.at, actor_id=self._actor_id, details=details or {}
        )
        self._changes.append(change)

    def draw_up(self, draft: Invoice, lines: Sequence[Line]) -> None:
        """Write a draft invoice with its lines."""
        self._drafts.append((draft, lines))

    def bill(self, period: Period) -> None:
        """Record a billed period. Writing fails if it was billed before."""
        self._periods.append(period)

    def cover(self, period: Period) -> None:
        """Record that the time from the period's start is covered by another invoice than before."""
        self._replaced.append(period)

    def pay(self, payment: OpenPayment) -> None:
        """Open a payment."""
        self._payments.append(payment)

    def settle(self, draft: Invoice, *, payment_id: UUID | None = None, by: str = "") -> None:
        """Record that a draft is paid: the amount due by the payment `payment_id` through the gateway `by`, the rest
        from the member's balance."""
        self._paid.append(
            invoices.Payment(
                store_id=draft.store_id, id=draft.id, user_id=draft.user_id, at=self.at, payment_id=payment_id
            )
        )
        if draft.balance_applied:
            self.credit(draft, -draft.balance_applied, "invoice", invoice_id=draft.id)
        entries = (
            Entry(gateway(by), draft.amount_due),
            Entry("balance", draft.balance_applied),
            Entry("revenue", -draft.subtotal),
            Entry("tax", -draft.tax),
        )
        self.book(draft, "invoice", f"invoice:{draft.id}", entries)

    def credit(self, invoice: Invoice, amount: int, kind: str, **source: UUID) -> None:
        """Add an entry to the balance of an invoice's member: `amount` in minor units, negative if it is used up."""
        row = {
            "store_id": invoice.store_id,
            "id": new_id(),
            "user_id": invoice.user_id,
            "currency": invoice.currency,
            "amount": amount,
            "kind": kind,
            "created_at": self.at,
        }
        self._credits.append(row | source)

    def book(self, invoice: Invoice, kind: books.Kind, source: str, entries: tuple[Entry, ...]) -> None:
        """Book a movement of money of an invoice's member, in the invoice's currency."""
        self._bookings.append(
            Booking(
                store_id=invoice.store_id,
                kind=kind,
                source=source,
                user_id=invoice.user_id,
                currency=invoice.currency,
                at=self.at,
                entries=entries,
            )
        )

    def notify(self, subscription: Subscription, kind: NoticeKind, of: datetime, card: str = "") -> None:
        """Queue a mail to the subscription's member. `of` is the moment that it is about: a mail of a kind is sent once
        for each such moment. `card` is the member's card as it is shown."""
        self._notices.append((subscription, kind, of, card))

    def after_write(self, step: Callable[[], None]) -> None:
        """Have `step` called once everything else has been written."""
        self._after.append(step)

    def write(self) -> list[Subscription]:
        """Write everything, and start empty again. Returns: the changed subscriptions as they are now."""
        written = state.record(self._changes)
        if self._drafts:
            invoices.draw_up(self._drafts)
        if self._periods:
            periods.bill(self._periods)
        for period in self._replaced:
            periods.replace(period)
        if self._paid:
            invoices.finish(self._paid)
        if self._credits:
            run_later(_CREDIT, {"rows": msgspec.json.encode(self._credits).decode()})
        books.book(self._bookings)
        for payment in self._payments:
            open_payment(payment)
        for subscription, kind, of, card in self._notices:
            queue_notice(subscription, kind, of, card)
        for step in self._after:
            step()
        self._start_empty()
        return written
