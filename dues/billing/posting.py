"""The writes of one unit of work: collected, and then made with one statement for each table, however many rows.

posting = Posting(at)
one = bills.open_bill(posting, one, account, …)
posting.change(before, one, "renewed")
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
    """Part of a transaction(), at the moment `at` of the store's time; of each subscription one change at most."""

    def __init__(self, at: datetime, actor_id: UUID | None = None) -> None:
        self.at, self._actor_id = at, actor_id
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
        """A subscription has changed."""
        change = Change(
            before=before, after=after, kind=kind, at=self.at, actor_id=self._actor_id, details=details or {}
        )
        self._changes.append(change)

    def draw_up(self, draft: Invoice, lines: Sequence[Line]) -> None:
        self._drafts.append((draft, lines))

    def bill(self, period: Period) -> None:
        """A period is billed, which none was before."""
        self._periods.append(period)

    def cover(self, period: Period) -> None:
        """The time from its start is paid for by something else than before."""
        self._replaced.append(period)

    def pay(self, payment: OpenPayment) -> None:
        self._payments.append(payment)

    def settle(self, draft: Invoice, *, payment_id: UUID | None = None, by: str = "") -> None:
        """A draft is paid: what is due by a payment through the gateway `by`, the rest from the member's balance."""
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
        """An entry of the balance of an invoice's member."""
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
        """A movement of money of an invoice's member, in its currency."""
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

    def tell(self, one: Subscription, kind: NoticeKind, of: datetime, card: str = "") -> None:
        """Its member is told by mail, once of each moment that it is about; `card` is how theirs is shown."""
        self._notices.append((one, kind, of, card))

    def after_write(self, step: Callable[[], None]) -> None:
        """Have `step` called once everything else has been written."""
        self._after.append(step)

    def write(self) -> list[Subscription]:
        """Write everything, and begin anew. Returns: the subscriptions as they are now."""
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
        for one, kind, of, card in self._notices:
            queue_notice(one, kind, of, card)
        for step in self._after:
            step()
        self.__init__(self.at, self._actor_id)  # type: ignore[misc]
        return written
