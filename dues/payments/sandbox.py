"""The built-in gateway: charges nobody, and behaves as the payment method says.

    sandbox_ok            succeeds
    sandbox_declined      is declined, `card_declined`
    sandbox_action        waits for its payer, who succeeds or fails (`authentication_failed`)
    sandbox_timeout       is never charged, and the gateway does not answer
    sandbox_lost_answer   is charged, and the answer is lost

Its books are a schema of their own, written on connections of their own: whatever is rolled back in Dues, they stay, as
those of a real gateway would.
"""

import time
from collections.abc import Mapping
from typing import Any, Literal

from flask import current_app
from sqlalchemy import Engine, TextClause, create_engine, text
from sqlalchemy.exc import OperationalError

from dues.ids import new_id
from dues.payments.gateway import GatewayTimeout, Operation, Outcome
from dues.settings import settings

Method = Literal["sandbox_ok", "sandbox_declined", "sandbox_action", "sandbox_timeout", "sandbox_lost_answer"]

_OUTCOMES: dict[str, Outcome] = {
    "sandbox_ok": "succeeded",
    "sandbox_declined": "declined",
    "sandbox_action": "requires_action",
    "sandbox_lost_answer": "succeeded",
}
_FAILURE_CODES = {"sandbox_declined": "card_declined", "sandbox_action": "authentication_failed"}

# How soon books that cannot be reached are tried again.
_AGAIN_S = 0.1

# What the method of a key says that was closed before anything came of it.
_CLOSED = "closed"

_BOOK = text("""
    insert into sandbox_gateway.operations(key, kind, amount, currency, method, outcome, reference)
    values (:key, :kind, :amount, :currency, :method, :outcome, :reference)
    on conflict (key) do nothing returning key
""")
_FIND = text("select outcome, method, reference from sandbox_gateway.operations where key = :key")
_CONFIRM = text("""
    update sandbox_gateway.operations set outcome = :outcome where key = :key and outcome = 'requires_action'
    returning key
""")
_CHARGED = text("""
    select amount from sandbox_gateway.operations where key = :key and kind = 'charge' and outcome = 'succeeded'
""")


class Sandbox:
    """See dues/payments/gateway.py for what its methods do."""

    def charge(self, key: str, amount: int, currency: str, method: str) -> Operation:
        if method == "sandbox_timeout" and self.find(key) is None:
            raise GatewayTimeout("the sandbox does not answer a charge of sandbox_timeout")
        is_new = self._book(key, "charge", amount, currency, method, _OUTCOMES.get(method, "declined"))
        if is_new and method == "sandbox_lost_answer":
            raise GatewayTimeout("the sandbox lost the answer to a charge of sandbox_lost_answer")
        return self._known(key)

    def confirm(self, key: str, *, succeeds: bool) -> Operation:
        _run(_CONFIRM, {"key": key, "outcome": "succeeded" if succeeds else "declined"})
        return self._known(key)

    def refund(self, key: str, charge_key: str, amount: int, currency: str) -> Operation:
        charged = _run(_CHARGED, {"key": charge_key})
        outcome: Outcome = "succeeded" if charged and amount <= charged[0] else "declined"
        self._book(key, "refund", amount, currency, "refund", outcome)
        return self._known(key)

    def find(self, key: str) -> Operation | None:
        row = _run(_FIND, {"key": key})
        if row is None or row.method == _CLOSED:
            return None
        declined = row.outcome == "declined"
        failure_code = _FAILURE_CODES.get(row.method, "declined") if declined else None
        return Operation(row.outcome, row.reference, failure_code)

    def close(self, key: str) -> Operation | None:
        _run(_CONFIRM, {"key": key, "outcome": "declined"})
        self._book(key, "charge", 0, "XXX", _CLOSED, "declined")
        return self.find(key)

    def _book(self, key: str, kind: str, amount: int, currency: str, method: str, outcome: Outcome) -> bool:
        """Write an operation down unless its key is taken. Returns: whether it was not."""
        values = {
            "key": key,
            "kind": kind,
            "amount": amount,
            "currency": currency,
            "method": method,
            "outcome": outcome,
            "reference": f"sandbox_{kind}_{new_id().hex}",
        }
        return _run(_BOOK, values) is not None

    def _known(self, key: str) -> Operation:
        return self.find(key) or Operation("declined", "", "declined")


def _run(statement: TextClause, values: Mapping[str, Any]) -> Any:
    """Each statement may run twice: a key stands for one operation, however often it is asked for."""
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
    """Connections apart from those of Dues, bounded in time as calls to a gateway are."""
    engine: Engine | None = current_app.extensions.get("payments.sandbox")
    if engine is None:
        timeout_s = settings().gateway_timeout_s
        engine = current_app.extensions["payments.sandbox"] = create_engine(
            settings().database_url,
            isolation_level="AUTOCOMMIT",
            pool_size=1,
            pool_pre_ping=True,
            hide_parameters=True,
            connect_args={
                "application_name": "dues sandbox gateway",
                "connect_timeout": max(1, int(timeout_s)),
                "options": f"-c statement_timeout={int(timeout_s * 1000)}",
            },
        )
    return engine
