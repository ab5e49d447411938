"""What a payment gateway can be asked. Each call is made outside of transactions, is bounded in time, and carries a key
of ours (a payment's or a refund's id): the same key is the same operation, however often it is asked for.

The model is that of PaymentIntents: a customer has stored payment methods; a charge names one of them, or a token, and
says whether its payer is there to act (`off_session`: they are not).
"""

from collections.abc import Iterable
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


@dataclass(frozen=True, slots=True)
class StoredMethod:
    """A payer's method as the gateway keeps it, to be charged again while they are away. `customer` and `reference` are
    the gateway's own names of the payer and the method; the rest is what may be shown of a card."""

    customer: str
    reference: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What is to be charged, in minor units of `currency`. `method` is a stored method's reference, which belongs to
    `customer`, or a token. `off_session`: the payer is not there to act, so what would ask them to is declined."""

    amount: int
    currency: str
    method: str
    customer: str | None = None
    off_session: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """A charge or a refund that a gateway has made, by the key under which it was asked for."""

    key: str
    kind: Literal["charge", "refund"]
    amount: int
    currency: str


class Gateway(Protocol):
    """Every method but `describe` may raise GatewayTimeout."""

    def describe(self, key: str, token: str) -> StoredMethod | None:
        """The method that a token stands for, to be stored under `key`, where the gateway need not be called for that;
        else None, and `store()` has to be."""
        ...

    def store(self, key: str, customer: str, token: str) -> StoredMethod:
        """Keep the method that a token stands for, for a customer of ours to be charged with."""
        ...

    def charge(self, key: str, charge: Charge) -> Operation:
        """Make a charge, or say what became of this key before."""
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

    def records(self) -> Iterable[Record]:
        """Every charge and every refund that was made, as the gateway itself has them on record."""
        ...
