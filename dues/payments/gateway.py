"""The interface of a payment gateway. Each call is made outside of transactions, is limited in time, and carries a key
of ours (the id of a payment or a refund). The same key means the same operation, however often it is requested.

The model is that of PaymentIntents: a customer has stored payment methods; a charge names one of these or a token, and
says whether the payer is present to act (`off_session`: they are not).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from dues.errors import Problem

Outcome = Literal["succeeded", "declined", "requires_action"]
DisputeStatus = Literal["open", "won", "lost"]


class GatewayTimeout(Problem):
    """The gateway did not answer: it may or may not have done what it was asked."""

    status, title, code = 504, "The payment gateway did not answer", "gateway_timeout"


class GatewayBusy(Problem):
    """The gateway has refused the request for now, and has done nothing: ask again later."""

    status, title, code = 503, "The payment gateway takes no requests at present", "gateway_busy"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a gateway did under one key. `reference` is its own name for the operation; `failure_code` says why it
    declined; `action` is what the payer's client needs to let them act."""

    outcome: Outcome
    reference: str
    failure_code: str | None = None
    action: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class StoredMethod:
    """A payer's method as the gateway stores it, which can be charged without the payer being present. `customer` and
    `reference` are the gateway's names of the payer and the method; the rest is what may be shown of a card."""

    customer: str
    reference: str
    brand: str
    last4: str
    exp_month: int
    exp_year: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A charge to be made under `key`, in minor units of `currency`. `method` is the reference of a stored method,
    which belongs to `customer`, or a token. `off_session`: the payer is not present, so a charge that would need them
    to act is declined. `reference` is the gateway's own name for the charge, once that is known."""

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
    """A charge or a refund that a gateway has made, by the key under which it was requested; or a dispute that took
    money away, by the gateway's name for it. `amount` is positive, in minor units of `currency`."""

    key: str
    kind: Literal["charge", "refund", "dispute"]
    amount: int
    currency: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A dispute: the payer's bank has taken back `amount` (in minor units) of the charge `charge_key`. `reference` is
    the gateway's name for the dispute. `won`: the store got the amount back."""

    reference: str
    charge_key: str
    amount: int
    currency: str
    reason: str
    status: DisputeStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Something has happened to the charge, refund or setup with the key `name`, or to the dispute that the gateway
    calls `name`. The gateway has to be asked for details. `id` is the gateway's name for the news itself."""

    id: str
    about: Literal["charge", "setup", "dispute", "refund"]
    name: str
    store_id: str


@dataclass(frozen=True, slots=True)
class News:
    """What has happened, oldest first. `until`: when the newest of it happened, by the gateway's clock; None if nothing
    has."""

    hints: Sequence[Hint]
    until: datetime | None


class Gateway(Protocol):
    """Every method except `describe` may raise GatewayTimeout or GatewayBusy."""

    def describe(self, key: str, token: str) -> StoredMethod | None:
        """The method that a token stands for, to be stored under `key`, if that is possible without calling the
        gateway; otherwise None."""
        ...

    def charge(self, charge: Charge) -> Operation:
        """Make a charge, or return the result that its key already has."""
        ...

    def confirm(self, charge: Charge, *, succeeds: bool) -> Operation:
        """Continue a charge with the outcome `requires_action`: its payer has acted, or (not `succeeds`) has refused
        to."""
        ...

    def refund(self, key: str, charge: Charge, amount: int) -> Operation:
        """Refund `amount` minor units of a charge, or return the result that `key` already has."""
        ...

    def find_refund(self, key: str, charge: Charge) -> Operation | None:
        """The result of a refund; None if the gateway has none under its key. A refund that had succeeded may be
        declined later, because the payer's bank can send it back."""
        ...

    def find(self, charge: Charge) -> Operation | None:
        """The result of a charge so far; None only if the gateway has certainly not received its key yet."""
        ...

    def close(self, charge: Charge) -> Operation | None:
        """The final result of a charge, `succeeded` or `declined`. If it returns None, nothing will ever be charged
        under the key, not even by a request that is still on its way."""
        ...

    def dispute(self, reference: str) -> Dispute | None:
        """A dispute as it stands; None if it took no money away, or if the charge is not ours."""
        ...

    def news(self, since: datetime) -> News:
        """What has happened since a moment of the gateway's clock. Needed because webhooks get lost."""
        ...

    def records(self) -> Iterable[Record]:
        """All charges and refunds that were made, and all disputes that took money away, according to the gateway's own
        records."""
        ...
