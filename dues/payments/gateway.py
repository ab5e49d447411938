"""What a payment gateway can be asked. Each call is made outside of transactions, is bounded in time, and carries a key
of ours (a payment's or a refund's id): the same key is the same operation, however often it is asked for.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

from dues.errors import Problem

Outcome = Literal["succeeded", "declined", "requires_action"]


class GatewayTimeout(Problem):
    """The gateway did not answer: it may have done what it was asked, or may not."""

    status, title, code = 504, "The payment gateway did not answer", "gateway_timeout"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a gateway did under one key. `reference` is its own name for that; `failure_code` says why it declined."""

    outcome: Outcome
    reference: str
    failure_code: str | None = None


class Gateway(Protocol):
    """Amounts are minor units of `currency`. Every method may raise GatewayTimeout."""

    def charge(self, key: str, amount: int, currency: str, method: str) -> Operation:
        """Charge `method`, or say what became of this key before."""
        ...

    def confirm(self, key: str, *, succeeds: bool) -> Operation:
        """The payer has done, or refused, what a charge of outcome `requires_action` asks for."""
        ...

    def refund(self, key: str, charge_key: str, amount: int, currency: str) -> Operation:
        """Give back some of what was charged under `charge_key`, or say what became of this key before."""
        ...

    def find(self, key: str) -> Operation | None:
        """What became of a key so far; None where the gateway certainly has not heard of it yet."""
        ...

    def close(self, key: str) -> Operation | None:
        """The last word on a charge, `succeeded` or `declined`; or None, and then nothing will ever be charged under
        this key, not even by a request that is still on its way."""
        ...
