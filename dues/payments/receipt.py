"""Receipts of payments and documents of refunds: their content, as data that is stored, and the PDF made from it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from msgspec import Struct

from dues.accounts.addresses import address_lines
from dues.money import format_money, rounded, split_gross
from dues.pdf.language import Language, Paper, words_of
from dues.pdf.typesetter import typeset
from dues.stores.seller import seller_lines

_TEMPLATE = "payments/templates/receipt.typ"


class Seller(Struct, frozen=True, kw_only=True):
    """The payee as they were named at the time. `name` is the store's; `lines` are its legal name, address and tax
    id."""

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


def seller_shown(
    *,
    name: str,
    language: Language,
    legal_name: str | None = None,
    address: dict[str, Any] | None = None,
    country: str | None = None,
    tax_id: str | None = None,
    contact_email: str | None = None,
    website: str | None = None,
    note: str | None = None,
) -> Seller:
    """A store as a document shows it."""
    return Seller(
        name=name,
        lines=seller_lines(name, legal_name, address, country, tax_id, language),
        country=country or "",
        contact_email=contact_email or "",
        website=website or "",
        note=note or "",
    )


def payer_shown(*, name: str, email: str, address: Mapping[str, Any] | None, language: Language) -> Payer:
    """A user as a document shows them; `address` has the parameters of `address_lines()`."""
    return Payer(name=name, email=email, lines=address_lines(**address or {}, language=language))


class Refunded(Struct, frozen=True, kw_only=True):
    """One refund, in minor units. `before` is the sum of earlier refunds. `tax` is the tax included in the amount, if a
    credit note states it."""

    amount: int
    refunded_at: datetime
    receipt_number: str
    before: int = 0
    tax: int | None = None
    reason: str = ""
    reference: str = ""


class Receipt(Struct, frozen=True, kw_only=True):
    """The content of a receipt or, with `refund`, of the document about a refund.

    Amounts are minor units of `currency`, and include a tax of `tax_rate` parts per million. Dates are shown in the
    store's `timezone`. `test`: the store is a test store, where no real money is paid.
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
    language: Language = "en"
    paper: Paper = "a4"
    tax_rate: int = 0

    @property
    def title(self) -> str:
        return "Refund" if self.refund else "Receipt"

    @property
    def what(self) -> str:
        """What the payment was for, as the document shows it."""
        return self.description or "Payment"

    @property
    def issued_at(self) -> datetime:
        return self.refund.refunded_at if self.refund else self.paid_at

    def money(self, amount: int) -> str:
        return format_money(amount, self.currency)

    def moment(self, moment: datetime) -> str:
        """The time in English: `20 November 2026, 15:39 UTC+01:00`, in the store's time zone."""
        return words_of("en").moment(moment, self.timezone)


def receipt_pdf(receipt: Receipt, logo: bytes = b"") -> bytes:
    """The document as a PDF. The same receipt gives the same bytes. Needs an application context."""
    return typeset(
        _TEMPLATE,
        _Shown(receipt).document(),
        receipt.issued_at,
        country=receipt.seller.country,
        language=receipt.language,
        paper=receipt.paper,
        logo=logo,
    )


class _Shown:
    """The texts that the template shows."""

    def __init__(self, receipt: Receipt) -> None:
        self._receipt = receipt
        self._words = words_of(receipt.language)

    def document(self) -> dict[str, Any]:
        receipt, words = self._receipt, self._words
        about = self._about_refund(receipt.refund) if receipt.refund else self._about_payment()
        seller = receipt.seller
        contact = [" · ".join(word for word in (seller.contact_email, seller.website) if word)]
        return about | {
            "title": words(receipt.title),
            "number": receipt.number,
            "is_test": receipt.test,
            "seller": {"name": seller.name, "lines": [line for line in (*seller.lines, *contact) if line]},
            "notes": [line for line in seller.note.splitlines() if line.strip()],
            "words": {
                "description": words("Description"),
                "amount": words("Amount"),
                "test": words("Test: no money was moved"),
            },
        }

    def _about_payment(self) -> dict[str, Any]:
        receipt, words = self._receipt, self._words
        paid = self._money(receipt.amount)
        return {
            "headline": [paid, words("paid on {day}", day=self._day(receipt.paid_at))],
            "facts": [
                [words("Receipt number"), [receipt.number]],
                [words("Date"), [words.moment(receipt.paid_at, receipt.timezone)]],
                [words("Paid by"), self._payer()],
                [words("Payment method"), [receipt.method]],
                [words("Reference"), [receipt.reference]],
            ],
            "lines": [[self._what(), paid]],
            "sums": [*self._tax(*split_gross(receipt.amount, receipt.tax_rate)), [words("Total paid"), paid, True]],
        }

    def _about_refund(self, refund: Refunded) -> dict[str, Any]:
        receipt, words = self._receipt, self._words
        left = receipt.amount - refund.before - refund.amount
        tax = self._tax_of(refund) if refund.tax is None else refund.tax
        earlier = [[words("Refunded before"), self._money(-refund.before), False]] if refund.before else []
        of = words("{number} of {day}", number=refund.receipt_number, day=self._day(receipt.paid_at))
        return {
            "headline": [
                self._money(refund.amount),
                words("refunded on {day}", day=self._day(refund.refunded_at)),
            ],
            "facts": [
                [words("Refund number"), [receipt.number]],
                [words("Date"), [words.moment(refund.refunded_at, receipt.timezone)]],
                [words("Refunded to"), self._payer()],
                [words("Payment method"), [receipt.method]],
                [words("Reason"), [refund.reason]],
                [words("Reference"), [refund.reference]],
                [words("For receipt"), [of]],
            ],
            "lines": [[self._what(), self._money(receipt.amount)]],
            "sums": [
                [words("Paid"), self._money(receipt.amount), False],
                *earlier,
                *self._tax(tax - refund.amount, -tax),
                [words("This refund"), self._money(-refund.amount), True],
                [words("Paid after refunds"), self._money(left), False],
            ],
        }

    def _tax(self, net: int, tax: int) -> list[list[Any]]:
        """The rows for the net amount and the tax; none if there is no tax."""
        if self._receipt.tax_rate == 0:
            return []
        rate = self._words.rate(self._receipt.tax_rate)
        return [
            [self._words("Net"), self._money(net), False],
            [self._words("Tax {rate}", rate=rate), self._money(tax), False],
        ]

    def _tax_of(self, refund: Refunded) -> int:
        """The tax included in a refund. Over several refunds these add up to the tax of the payment."""
        _, tax = split_gross(self._receipt.amount, self._receipt.tax_rate)
        before, after = (
            rounded(tax * refunded, self._receipt.amount) for refunded in (refund.before, refund.before + refund.amount)
        )
        return after - before

    def _what(self) -> str:
        return self._receipt.description or self._words("Payment")

    def _payer(self) -> list[str]:
        payer = self._receipt.payer
        return [payer.name, payer.email, *payer.lines]

    def _money(self, amount: int) -> str:
        return self._words.money(amount, self._receipt.currency)

    def _day(self, moment: datetime) -> str:
        return self._words.day(moment, self._receipt.timezone)
