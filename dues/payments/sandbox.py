"""The built-in gateway: it charges nobody, and behaves as the payment method's token says.

    sandbox_ok              succeeds
    sandbox_declined        is declined, `card_declined`
    sandbox_insufficient    is declined, `insufficient_funds`
    sandbox_stolen          is declined, `stolen_card`
    sandbox_fail_after:N    once stored, succeeds N times and is declined after that, `card_declined`
    sandbox_action          waits for its payer, who succeeds or fails (`authentication_failed`); off session, when
                            the payer cannot be asked, it is declined (`authentication_required`)
    sandbox_timeout         is never charged, and the gateway does not answer
    sandbox_lost_answer     is charged, and the answer is lost
    sandbox_disputed        succeeds, and then the payer's bank takes the money back
    sandbox_dispute_won     the same, and the store gets the money back when the gateway is next asked for news
    sandbox_dispute_lost    the same, and the bank keeps the money

Its books are a separate schema, written on separate connections: they persist when Dues rolls back a transaction, as
those of a real gateway would.
"""

import time
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from flask import current_app
from sqlalchemy import Engine, TextClause, create_engine, text
from sqlalchemy.exc import OperationalError

from dues.ids import new_id
from dues.payments.gateway import (
    Charge,
    Dispute,
    GatewayTimeout,
    Hint,
    News,
    Operation,
    Outcome,
    Record,
    StoredMethod,
)
from dues.postgres.sessions import DIALECT, opener
from dues.settings import settings

METHOD_PATTERN = (
    r"sandbox_(?:ok|declined|insufficient|stolen|action|timeout|lost_answer|disputed|dispute_won|dispute_lost"
    r"|fail_after:[0-9]{1,4})"
)

_FAILURE_CODES = {
    "sandbox_declined": "card_declined",
    "sandbox_insufficient": "insufficient_funds",
    "sandbox_stolen": "stolen_card",
    "sandbox_fail_after": "card_declined",
    "sandbox_action": "authentication_required",
}
# The digits that are shown of a card; they tell people which token it is.
_LAST4 = {
    "sandbox_ok": "4242",
    "sandbox_declined": "0002",
    "sandbox_insufficient": "9995",
    "sandbox_stolen": "9979",
    "sandbox_fail_after": "0341",
    "sandbox_action": "3155",
    "sandbox_timeout": "0408",
    "sandbox_lost_answer": "0504",
    "sandbox_disputed": "0259",
    "sandbox_dispute_won": "1976",
    "sandbox_dispute_lost": "5423",
}
# How a dispute ends.
_DISPUTED = {"sandbox_disputed": "open", "sandbox_dispute_won": "won", "sandbox_dispute_lost": "lost"}
# Test stores move their clocks years ahead; the cards must outlast that.
_EXPIRES = (12, 2099)

# How soon a failed connection to the books is tried again, in seconds.
_AGAIN_S = 0.1

# The method recorded for a key that was closed before anything was charged.
_CLOSED = "closed"

_BOOK = text("""
    insert into sandbox_gateway.operations(key, kind, amount, currency, method, outcome, failure_code, reference)
    values (:key, :kind, :amount, :currency, :method, :outcome, :failure_code, :reference)
    on conflict (key) do nothing returning key
""")
_FIND = text("select outcome, method, reference, failure_code from sandbox_gateway.operations where key = :key")
_CONFIRM = text("""
    update sandbox_gateway.operations set outcome = :outcome, failure_code = :failure_code
    where key = :key and outcome = 'requires_action' returning key
""")
_CHARGED = text("""
    select amount from sandbox_gateway.operations where key = :key and kind = 'charge' and outcome = 'succeeded'
""")
_RECORDS = text("""
    select key, kind, amount, currency from sandbox_gateway.operations where outcome = 'succeeded'
    union all
    select reference, 'dispute', amount, currency from sandbox_gateway.disputes where status in ('open', 'lost')
""")
_DISPUTE = text("""
    insert into sandbox_gateway.disputes(reference, charge_key, store_id, amount, currency, status, ends_as)
    values (:reference, :key, :store_id, :amount, :currency, 'open', :ends_as)
    on conflict do nothing returning reference
""")
_FIND_DISPUTE = text("""
    select reference, charge_key, amount, currency, status from sandbox_gateway.disputes where reference = :reference
""")
_NEWS = text("""
    select reference, store_id, status, changed_at from sandbox_gateway.disputes
    where changed_at >= :since order by changed_at
""")
# A dispute that was reported as open is decided by the next time somebody asks.
_DECIDE = text("""
    update sandbox_gateway.disputes set status = ends_as, changed_at = clock_timestamp()
    where status = 'open' and ends_as <> 'open' and is_told returning reference
""")
_MARK_TOLD = text(
    "update sandbox_gateway.disputes set is_told = true where status = 'open' and not is_told returning reference"
)
# The position of a key among the charges of its method, counted from 1. A repeated key keeps its position.
_NUMBER = text("""
    insert into sandbox_gateway.methods as m (reference, keys) values (:method, array[:key])
    on conflict (reference) do update
        set keys = case when :key = any(m.keys) then m.keys else m.keys || excluded.keys end
    returning array_position(keys, :key)
""")


class Sandbox:
    """See dues/payments/gateway.py for its methods."""

    def describe(self, key: str, token: str) -> StoredMethod:
        name, (month, year) = _name(token), _EXPIRES
        return StoredMethod("sandbox", f"{token}@{key}", "visa", _LAST4[name], month, year)

    def charge(self, charge: Charge) -> Operation:
        key, name = charge.key, _name(charge.method)
        if name == "sandbox_timeout" and self.find(charge) is None:
            raise GatewayTimeout("the sandbox does not answer a charge of sandbox_timeout")
        is_new = self._book(
            key, "charge", charge.amount, charge.currency, charge.method, *self._outcome(key, name, charge)
        )
        if name in _DISPUTED:
            values = {"key": key, "store_id": charge.store_id, "amount": charge.amount, "currency": charge.currency}
            _run(_DISPUTE, values | {"reference": f"sandbox_dispute_{key}", "ends_as": _DISPUTED[name]})
        if is_new and name == "sandbox_lost_answer":
            raise GatewayTimeout("the sandbox lost the answer to a charge of sandbox_lost_answer")
        return self._known(key)

    def _outcome(self, key: str, name: str, charge: Charge) -> tuple[Outcome, str | None]:
        """The outcome of a charge, and the reason if it is declined."""
        if name == "sandbox_fail_after":
            token, _, stored = charge.method.partition("@")
            number = _run(_NUMBER, {"method": charge.method, "key": key})[0] if stored else 1
            if number <= int(token.partition(":")[2]):
                return "succeeded", None
        elif name == "sandbox_action" and not charge.off_session:
            return "requires_action", None
        elif name in ("sandbox_ok", "sandbox_lost_answer", *_DISPUTED):
            return "succeeded", None
        return "declined", _FAILURE_CODES.get(name, "declined")

    def confirm(self, charge: Charge, *, succeeds: bool) -> Operation:
        outcome, code = ("succeeded", None) if succeeds else ("declined", "authentication_failed")
        _run(_CONFIRM, {"key": charge.key, "outcome": outcome, "failure_code": code})
        return self._known(charge.key)

    def refund(self, key: str, charge: Charge, amount: int) -> Operation:
        charged = _run(_CHARGED, {"key": charge.key})
        outcome: Outcome = "succeeded" if charged and amount <= charged[0] else "declined"
        self._book(key, "refund", amount, charge.currency, "refund", outcome)
        return self._known(key)

    def find_refund(self, key: str, charge: Charge) -> Operation | None:
        return self._find(key)

    def find(self, charge: Charge) -> Operation | None:
        return self._find(charge.key)

    def close(self, charge: Charge) -> Operation | None:
        values = {"key": charge.key, "outcome": "declined", "failure_code": "authentication_failed"}
        _run(_CONFIRM, values)
        self._book(charge.key, "charge", 0, "XXX", _CLOSED, "declined")
        return self._find(charge.key)

    def dispute(self, reference: str) -> Dispute | None:
        row = _run(_FIND_DISPUTE, {"reference": reference})
        if row is None:
            return None
        return Dispute(
            reference=row.reference,
            charge_key=row.charge_key,
            amount=row.amount,
            currency=row.currency,
            reason="general",
            status=row.status,
        )

    def news(self, since: datetime) -> News:
        _run(_DECIDE, {})
        with _books().connect() as connection:
            rows = connection.execute(_NEWS, {"since": since}).all()
        _run(_MARK_TOLD, {})
        hints = [
            Hint(id=f"{row.reference}:{row.status}", about="dispute", name=row.reference, store_id=str(row.store_id))
            for row in rows
        ]
        return News(hints, rows[-1].changed_at if rows else None)

    def records(self) -> Iterable[Record]:
        with _books().connect() as connection:
            for row in connection.execute(_RECORDS):
                yield Record(row.key, row.kind, row.amount, row.currency)

    def _book(
        self, key: str, kind: str, amount: int, currency: str, method: str, outcome: Outcome, code: str | None = None
    ) -> bool:
        """Record an operation, unless its key is taken. Returns: whether it was recorded."""
        values = {
            "key": key,
            "kind": kind,
            "amount": amount,
            "currency": currency,
            "method": method,
            "outcome": outcome,
            "failure_code": code,
            "reference": f"sandbox_{kind}_{new_id().hex}",
        }
        return _run(_BOOK, values) is not None

    def _find(self, key: str) -> Operation | None:
        row = _run(_FIND, {"key": key})
        if row is None or row.method == _CLOSED:
            return None
        failure_code = (row.failure_code or "declined") if row.outcome == "declined" else None
        return Operation(row.outcome, row.reference, failure_code)

    def _known(self, key: str) -> Operation:
        return self._find(key) or Operation("declined", "", "declined")


def _name(method: str) -> str:
    """`sandbox_fail_after` of `sandbox_fail_after:3` and of `sandbox_fail_after:3@<key>`."""
    return method.partition("@")[0].partition(":")[0]


def _run(statement: TextClause, values: Mapping[str, Any]) -> Any:
    """Run a statement until the books can be reached. It may run twice: a key stands for one operation."""
    until = time.monotonic() + settings().gateway_timeout_s
    while True:
        try:
            with _books().connect() as connection:
                return connection.execute(statement, values).first()
        except OperationalError as error:
            if time.monotonic() > until:
                raise GatewayTimeout("the sandbox's books cannot be reached") from error
            time.sleep(_AGAIN_S)


def _books() -> Engine:
    """Connections separate from those of Dues, with the time limits of calls to a gateway."""
    engine: Engine | None = current_app.extensions.get("payments.sandbox")
    if engine is None:
        timeout_s = settings().gateway_timeout_s
        engine = current_app.extensions["payments.sandbox"] = create_engine(
            DIALECT,
            isolation_level="AUTOCOMMIT",
            pool_size=1,
            pool_pre_ping=True,
            hide_parameters=True,
            creator=opener(settings(), "dues sandbox gateway", timeout_s, statement_timeout=str(int(timeout_s * 1000))),
        )
    return engine
