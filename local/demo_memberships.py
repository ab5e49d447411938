"""Demo memberships: a year of subscriptions at the stores that sell them, written by the code that writes real ones.

They begin, renew, are declined and recover, cancel and leave, each at its time in the past. What falls due after
loading is done by the workers, as for any member. No mails are sent.
"""

import heapq
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.orm import Session

from dues.accounts.models import User
from dues.billing import periods
from dues.billing.accounts import lock_customer
from dues.billing.invoices import Invoice, Line
from dues.billing.periods import Period
from dues.billing.posting import Posting
from dues.billing.subscribe import terms_of
from dues.packages.models import Package
from dues.payments.models import PaymentMethod
from dues.stores.models import Store
from dues.subscriptions import machine, state
from dues.subscriptions.models import SubscriptionRow
from dues.subscriptions.subscription import Bill, BillKind, Subscription
from local.dice import Dice

MEMBERS = 24

_YEAR = timedelta(days=365)
_A_TRY = timedelta(days=1)
_CARD = "sandbox_ok"
# The stories of every six members of a store: staying, a decline and recovery, having canceled, being set to cancel
# now.
_STORIES = ("stays", "recovers", "stays", "leaves", "stays", "is leaving")
# Members are counted by tens; those after this number pay by the year.
_LAST_BY_THE_MONTH = 7
# The renewal at which their story happens.
_STORY_RENEWAL = 2

_PAY = text("""
    with opened as (
        insert into payments(store_id, id, user_id, package_id, subscription_id, invoice_id, amount, currency, status,
            description, payment_method, payment_method_id, off_session, gateway, gateway_ref, gateway_customer,
            failure_code, paid_at, created_at, updated_at)
        values (:store_id, :id, :user_id, :package_id, :subscription_id, :invoice_id, :amount, :currency, :status,
            :description, :method, :method_id, true, 'sandbox', :reference, 'sandbox', :failure_code, :paid_at, :at,
            :at)
        returning id),
    noted as (
        insert into payment_events(store_id, payment_id, id, to_status, reason, created_at)
        select :store_id, id, :event_id, :status, 'demo data', :at from opened)
    insert into sandbox_gateway.operations(key, kind, amount, currency, method, outcome, failure_code, reference,
        created_at)
    select id, 'charge', :amount, :currency, :method, :outcome, :failure_code, :reference, :at from opened
""")


def load_memberships(session: Session, dice: Dice) -> Sequence[str]:
    """Load the memberships, unless there are subscriptions already. Part of the caller's transaction(). Returns: the
    tables that it filled."""
    if session.scalar(select(SubscriptionRow.id).limit(1)):
        return ()
    people = session.scalars(select(User.id).order_by(User.id)).all()[1 : MEMBERS + 1]
    lives = [_Membership(session, dice, number, sale) for number, sale in enumerate(_sales(session, people))]
    # In chronological order, because invoices are numbered.
    running = [(next(life), number, life) for number, life in enumerate(one.live() for one in lives)]
    heapq.heapify(running)
    while running:
        _, number, life = heapq.heappop(running)
        if (at := next(life, None)) is not None:
            heapq.heappush(running, (at, number, life))
    return "customers", "subscriptions", "subscription_changes", "subscription_periods", "invoices", "payments"


def _sales(session: Session, people: Sequence[UUID]) -> Iterator[tuple[UUID, Package, str]]:
    """Who subscribes to which package, and its store's time zone, for the stores that sell only memberships."""
    stores = []
    for store in session.scalars(select(Store).order_by(Store.id)):
        packages = session.scalars(select(Package).where(Package.store_id == store.id)).all()
        sold = {package.interval: package for package in packages}
        if sold.keys() == {"month", "year"}:
            stores.append((store.timezone, sold))
    for number, user_id in enumerate(people):
        zone, sold = stores[number % len(stores)]
        yield user_id, sold["year" if number % 10 > _LAST_BY_THE_MONTH else "month"], zone


class _Membership:
    def __init__(self, session: Session, dice: Dice, number: int, sale: tuple[UUID, Package, str]) -> None:
        self.session, self.dice = session, dice
        self.user_id, self.package, self.zone = sale
        self.story = _STORIES[number // 2 % len(_STORIES)]
        self.start: datetime = dice.moment - _YEAR * dice.rng.uniform(0.3, 0.95)

    def live(self) -> Iterator[datetime]:
        """Carry out the story, step by step; yields the time of each step before it."""
        yield self.start
        self._begin()
        turns = 0
        while (end := self.one.current_period_end) and end <= self.dice.moment:
            yield end
            turns += 1
            if turns == _STORY_RENEWAL and self.story == "leaves":
                self._change(end, machine.over(self.one, end), "ended")
                return
            if turns != _STORY_RENEWAL or self.story != "recovers":
                self._renew(end)
                continue
            draft, declined = self._decline(end)
            yield (again := min(end + _A_TRY, self.dice.moment))
            self._recover(draft, declined, again)
        if self.story == "is leaving":
            yield self.dice.moment
            one = machine.canceled_at_end(self.one, self.dice.moment, "Moving away", None)
            self._change(self.dice.moment, one, "cancel_scheduled")

    def _begin(self) -> None:
        at, store_id = self.start, self.package.store_id
        lock_customer(store_id, self.user_id, at, by_member=True)
        self.method_id = self._card(at)
        made = machine.create(
            store_id=store_id,
            subscription_id=self.dice.id(at),
            user_id=self.user_id,
            terms=terms_of(self.package),
            timezone=self.zone,
            created_at=at,
            start_at=at,
        )
        (self.one,) = state.record([state.Change(before=None, after=made, kind="created", at=at)])
        posting = Posting(at)
        after = self._bill(posting, made, "create", at, *made.terms.period(at, self.zone, 0))[1]
        self._write(posting, machine.paid(after, at), "activated")

    def _card(self, at: datetime) -> UUID:
        found = select(PaymentMethod.id).where(PaymentMethod.user_id == self.user_id, PaymentMethod.is_default)
        if (known := self.session.scalar(found)) is not None:
            return known
        method_id = self.dice.id(at)
        columns: dict[str, Any] = {"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2099}
        columns |= {"gateway": "sandbox", "gateway_customer": "sandbox", "gateway_ref": f"{_CARD}@{method_id}"}
        made = {"created_at": at, "updated_at": at}
        self.session.add(PaymentMethod(user_id=self.user_id, id=method_id, is_default=True, **columns, **made))
        self.session.flush()
        return method_id

    def _renew(self, end: datetime) -> None:
        posting, following = Posting(end), machine.end_period(self.one)
        after = self._bill(
            posting, following, "renewal", end, following.current_period_start, following.current_period_end
        )[1]
        self._write(posting, machine.paid(after, end), "renewed")

    def _decline(self, end: datetime) -> tuple[Invoice, Subscription]:
        posting, following = Posting(end), machine.end_period(self.one)
        start, until = following.current_period_start, following.current_period_end
        draft, owing = self._bill(posting, following, "renewal", end, start, until, code="insufficient_funds")
        self._write(posting, machine.declined(owing, "insufficient_funds", end, 7), "past_due")
        return draft, self.one

    def _recover(self, draft: Invoice, declined: Subscription, at: datetime) -> None:
        posting, payment_id = Posting(at), self._pay(draft, at)
        tried = machine.tried_again(declined, at, draft.amount_due, manually=False)
        posting.settle(draft, payment_id=payment_id, by="sandbox")
        self._write(posting, machine.paid(tried, at), "recovered")
        periods.pay(self.one, draft.id, payment_id)

    def _bill(
        self, posting: Posting, one: Subscription, kind: BillKind, at: datetime, start: Any, end: Any, code: str = ""
    ) -> tuple[Invoice, Subscription]:
        """The invoice of a period, paid unless it is declined with a `code`. Returns: the invoice, and the subscription
        that owes it."""
        draft = Invoice(
            store_id=one.store_id,
            id=self.dice.id(at),
            user_id=self.user_id,
            subscription_id=one.id,
            kind=kind,
            currency=one.currency,
            subtotal=one.amount,
            tax=0,
            tax_rate=0,
            total=one.amount,
            balance_applied=0,
            amount_due=one.amount,
            period_start=start,
            period_end=end,
            created_at=at,
            updated_at=at,
        )
        line = Line(
            description=self.package.name,
            amount=one.amount,
            package_id=one.package_id,
            period_start=start,
            period_end=end,
        )
        posting.draw_up(draft, [line])
        payment_id = self._pay(draft, at, code)
        period = Period(
            store_id=one.store_id,
            subscription_id=one.id,
            starts_at=start,
            ends_at=end,
            package_id=one.package_id,
            amount=one.amount,
            currency=one.currency,
            invoice_id=draft.id,
            created_at=at,
            payment_id=None if code else payment_id,
        )
        posting.bill(period)
        if not code:
            posting.settle(draft, payment_id=payment_id, by="sandbox")
        bill = Bill(invoice_id=draft.id, kind=kind, due_at=at, tried_at=at, amount=draft.amount_due)
        return draft, machine.owing(one, bill)

    def _pay(self, draft: Invoice, at: datetime, code: str = "") -> UUID:
        """A payment of an invoice, and the sandbox's record of it. Returns: the payment's id."""
        payment_id = self.dice.id(at)
        values = {
            "store_id": draft.store_id,
            "id": payment_id,
            "event_id": self.dice.id(at),
            "user_id": self.user_id,
            "package_id": self.package.id,
            "subscription_id": draft.subscription_id,
            "invoice_id": draft.id,
            "amount": draft.amount_due,
            "currency": draft.currency,
            "status": "failed" if code else "succeeded",
            "outcome": "declined" if code else "succeeded",
            "failure_code": code or None,
            "description": self.package.name,
            "method": f"{_CARD}@{self.method_id}",
            "method_id": self.method_id,
            "reference": f"sandbox_charge_{payment_id.hex}",
            "paid_at": None if code else at,
            "at": at,
        }
        self.session.execute(_PAY, values)
        return payment_id

    def _change(self, at: datetime, after: Subscription, kind: state.ChangeKind) -> None:
        self._write(Posting(at), after, kind)

    def _write(self, posting: Posting, after: Subscription, kind: state.ChangeKind) -> None:
        posting.change(self.one, after, kind)
        (self.one,) = posting.write()
