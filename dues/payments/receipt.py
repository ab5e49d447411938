"""Receipts of payments and documents of refunds: their content, as data that is stored, and the PDF made from it."""

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct

from dues.money import format_money
from dues.pdf import typeset

_TEMPLATE = "payments/templates/receipt.typ"


class Seller(Struct, frozen=True, kw_only=True):
    """The payee, as named at the time. `name` is the store's; `lines` are its legal name, address and tax id."""

    name: str
    lines: list[str] = []
    country: str = ""
    contact_email: str = ""
    website: str = ""
    note: str = ""


class Payer(Struct, frozen=True, kw_only=True):
    """The payer; `lines` are their address."""

    name: str
    email: str
    lines: list[str] = []


class Refunded(Struct, frozen=True, kw_only=True):
    """The amount of one refund, in minor units; `before` is the sum of earlier ones."""

    amount: int
    refunded_at: datetime
    receipt_number: str
    before: int = 0
    reason: str = ""
    reference: str = ""


class Receipt(Struct, frozen=True, kw_only=True):
    """The content of a receipt or, with `refund`, of the document about a refund.

    Amounts are minor units of `currency`. Dates are those of the store's `timezone`. `test`: the store is a test store,
    where nobody pays money.
    """

    number: str
    seller: Seller
    payer: Payer
    amount: int
    currency: str
    description: str
    paid_at: datetime
    timezone: str = "UTC"
    test: bool = False
    method: str = ""
    reference: str = ""
    refund: Refunded | None = None

    @property
    def title(self) -> str:
        return "Refund" if self.refund else "Receipt"

    @property
    def what(self) -> str:
        """What the payment was for, as the document names it."""
        return self.description or "Payment"

    @property
    def issued_at(self) -> datetime:
        return self.refund.refunded_at if self.refund else self.paid_at

    def money(self, amount: int) -> str:
        return format_money(amount, self.currency)

    def day(self, moment: datetime) -> str:
        """The date in words, in the store's time zone: `20 November 2026`."""
        there = self._there(moment)
        return f"{there.day} {there:%B %Y}"

    def moment(self, moment: datetime) -> str:
        """The time in words: `20 November 2026, 15:39 UTC+01:00`. Abbreviations of time zones are ambiguous."""
        there = self._there(moment)
        offset = there.isoformat()[-6:]
        return f"{self.day(moment)}, {there:%H:%M} UTC{'' if offset == '+00:00' else offset}"

    def _there(self, moment: datetime) -> datetime:
        return moment.astimezone(UTC if self.timezone == "UTC" else ZoneInfo(self.timezone))


def receipt_pdf(receipt: Receipt) -> bytes:
    """The document as a PDF. The same receipt gives the same bytes. Needs an application context."""
    return typeset(_TEMPLATE, _shown(receipt), receipt.issued_at, country=receipt.seller.country)


def _shown(receipt: Receipt) -> dict[str, Any]:
    """The texts that the template shows."""
    about = _about_refund(receipt, receipt.refund) if receipt.refund else _about_payment(receipt)
    seller = receipt.seller
    contact = [" · ".join(word for word in (seller.contact_email, seller.website) if word)]
    return about | {
        "title": receipt.title,
        "number": receipt.number,
        "is_test": receipt.test,
        "seller": {"name": seller.name, "lines": [line for line in (*seller.lines, *contact) if line]},
        "notes": [line for line in seller.note.splitlines() if line.strip()],
    }


def _about_payment(receipt: Receipt) -> dict[str, Any]:
    paid = receipt.money(receipt.amount)
    return {
        "headline": [paid, f"paid on {receipt.day(receipt.paid_at)}"],
        "facts": [
            ["Receipt number", [receipt.number]],
            ["Date", [receipt.moment(receipt.paid_at)]],
            ["Paid by", _payer(receipt)],
            ["Payment method", [receipt.method]],
            ["Reference", [receipt.reference]],
        ],
        "lines": [[receipt.what, paid]],
        "sums": [["Total paid", paid, True]],
    }


def _about_refund(receipt: Receipt, refund: Refunded) -> dict[str, Any]:
    given = receipt.money(refund.amount)
    left = receipt.amount - refund.before - refund.amount
    earlier = [["Refunded before", receipt.money(-refund.before), False]] if refund.before else []
    return {
        "headline": [given, f"refunded on {receipt.day(refund.refunded_at)}"],
        "facts": [
            ["Refund number", [receipt.number]],
            ["Date", [receipt.moment(refund.refunded_at)]],
            ["Refunded to", _payer(receipt)],
            ["Payment method", [receipt.method]],
            ["Reason", [refund.reason]],
            ["Reference", [refund.reference]],
            ["For receipt", [f"{refund.receipt_number} of {receipt.day(receipt.paid_at)}"]],
        ],
        "lines": [[receipt.what, receipt.money(receipt.amount)]],
        "sums": [
            ["Paid", receipt.money(receipt.amount), False],
            *earlier,
            ["This refund", receipt.money(-refund.amount), True],
            ["Paid after refunds", receipt.money(left), False],
        ],
    }


def _payer(receipt: Receipt) -> list[str]:
    return [receipt.payer.name, receipt.payer.email, *receipt.payer.lines]
