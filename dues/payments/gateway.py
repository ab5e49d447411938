"""What a payment gateway can be asked. Each call is made outside of transactions, is bounded in time, and carries a key
of ours (a payment's or a refund's id): the same key is the same operation, however often it is asked for.

The model is that of PaymentIntents: a customer has stored payment methods; a charge names one of them, or a token, and
says whether its payer is there to act (`off_session`: they are not).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from dues.errors import Problem

Outcome = Literal["succeeded", "declined", "requires_action"]
DisputeStatus = Literal["open", "won", "lost"]


class GatewayTimeout(Problem):
    """The gateway did not answer: it may have done what it was asked, or may not."""

    status, title, code = 504, "The payment gateway did not answer", "gateway_timeout"


class GatewayBusy(Problem):
    """The gateway has refused to do anything just now, and has done nothing: ask again later."""

    status, title, code = 503, "The payment gateway takes no requests at present", "gateway_busy"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a gateway did under one key. `reference` is its own name for that; `failure_code` says why it declined;
    `action` is what the payer's client needs to have them act."""

    outcome: Outcome
    reference: str
    failure_code: str | None = None
    action: Mapping[str, str] | None = None


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
    """What is to be charged under `key`, in minor units of `currency`. `method` is a stored method's reference, which
    belongs to `customer`, or a token. `off_session`: the payer is not there to act, so what would ask them to is
    declined. `reference` is the gateway's own name for it, once that is known."""

    key: str
    amount: int
    currency: str
    method: str
    store_id: str = ""
    customer: str | None = None
    off_session: bool = False
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A charge or a refund that a gateway has made, by the key under which it was asked for; or a dispute that took
    money away, by the gateway's own name for it."""

    key: str
    kind: Literal["charge", "refund", "dispute"]
    amount: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A payer's bank has taken back `amount` of what was charged under `charge_key`. `reference` is the gateway's name
    for it; `won`: the amount came back."""

    reference: str
    charge_key: str
    amount: int
    currency: str
    reason: str
    status: DisputeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Something has happened to a charge, a refund or a setup of a method, by its key, or to a dispute, by the
    gateway's name for it; what, the gateway has to be asked. `id` is the gateway's name for the news itself."""

    id: str
    about: Literal["charge", "setup", "dispute", "refund"]
    name: str
    store_id: str


@dataclass(frozen=True, slots=True)
class News:
    """What has happened, the oldest first. `until`: when the newest of it happened by the gateway's own clock, and
    None where nothing has."""

    hints: Sequence[Hint]
    until: datetime | None


class Gateway(Protocol):
    """Every method but `describe` may raise GatewayTimeout, or GatewayBusy."""

    def describe(self, key: str, token: str) -> StoredMethod | None:
        """The method that a token stands for, to be stored under `key`, where the gateway need not be called for that;
        else None."""
        ...

    def charge(self, charge: Charge) -> Operation:
        """Make a charge, or say what became of its key before."""
        ...

    def confirm(self, charge: Charge, *, succeeds: bool) -> Operation:
        """The payer has done, or refused, what a charge of outcome `requires_action` asks for."""
        ...

    def refund(self, key: str, charge: Charge, amount: int) -> Operation:
        """Give back some of what was charged, or say what became of this key before."""
        ...

    def find_refund(self, key: str, charge: Charge) -> Operation | None:
        """What has become of a refund; None where the gateway has none under its key. One that had succeeded may be
        declined later: the payer's bank can send it back."""
        ...

    def find(self, charge: Charge) -> Operation | None:
        """What became of a charge so far; None where the gateway certainly has not heard of its key yet."""
        ...

    def close(self, charge: Charge) -> Operation | None:
        """The last word on a charge, `succeeded` or `declined`; or None, and then nothing will ever be charged under
        its key, not even by a request that is still on its way."""
        ...

    def dispute(self, reference: str) -> Dispute | None:
        """A dispute as it stands; None where no money was taken away by it, or of a charge that is not ours."""
        ...

    def news(self, since: datetime) -> News:
        """What has happened since a moment of the gateway's clock: hooks get lost."""
        ...

    def records(self) -> Iterable[Record]:
        """Every charge and every refund that was made and every dispute that took money away, as the gateway itself has
        them on record."""
        ...
