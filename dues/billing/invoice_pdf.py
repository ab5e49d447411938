"""Printed invoices and credit notes: their content, as data that is stored, and the PDF made from it."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from dues.payments.receipt import Payer, Seller
from dues.pdf.language import Language, Paper, Words, words_of
from dues.pdf.typesetter import typeset

_TEMPLATE = "billing/templates/invoice.typ"


class PrintedLine(Struct, frozen=True, kw_only=True):
    """A line in minor units of the invoice's currency; `amount` is negative where something is given back."""

    description: str
    amount: int
    quantity: int = 1
    period_start: datetime | None = None
    period_end: datetime | None = None


class Credit(Struct, frozen=True, kw_only=True):
    """What a credit note says in addition: the final invoice that it corrects, and whether the money went to the
    balance."""

    invoice_id: str
    invoice_number: str
    invoice_issued_at: datetime
    reason: str = ""
    to_balance: bool = False


class Printed(Struct, frozen=True, kw_only=True):
    """The content of an invoice or, with `credit`, of a credit note.

    Amounts are minor units of `currency`. `balance_applied` was taken from the buyer's balance, or added to it if it is
    negative. `tax_rate` is in parts per million. Dates are shown in the store's `timezone`. `test`: the store is a test
    store, where no real money is paid.
    """

    number: str
    seller: Seller
    buyer: Payer
    currency: str
    lines: list[PrintedLine]
    subtotal: int
    tax: int
    total: int
    issued_at: datetime
    balance_applied: int = 0
    amount_due: int = 0
    timezone: str = "UTC"
    test: bool = False
    method: str = ""
    reference: str = ""
    credit: Credit | None = None
    language: Language = "en"
    paper: Paper = "a4"
    tax_rate: int = 0

    @property
    def title(self) -> str:
        return "Credit note" if self.credit else "Invoice"

    @property
    def words(self) -> Words:
        return words_of(self.language)

    def money(self, amount: int) -> str:
        return self.words.money(amount, self.currency)

    def day(self, moment: datetime) -> str:
        return self.words.day(moment, self.timezone)


def invoice_pdf(printed: Printed, logo: bytes = b"") -> bytes:
    """The document as a PDF. The same data give the same bytes. Needs an application context."""
    return typeset(
        _TEMPLATE,
        _shown(printed),
        printed.issued_at,
        country=printed.seller.country,
        language=printed.language,
        paper=printed.paper,
        logo=logo,
    )


def _shown(printed: Printed) -> dict[str, Any]:
    """The texts that the template shows."""
    seller, buyer, words = printed.seller, printed.buyer, printed.words
    contact = " · ".join(word for word in (seller.contact_email, seller.website) if word)
    about = _about_credit(printed, printed.credit) if printed.credit else _about_invoice(printed)
    return about | {
        "title": words(printed.title),
        "number": printed.number,
        "is_test": printed.test,
        "seller": {"name": seller.name, "lines": [line for line in (*seller.lines, contact) if line]},
        "buyer": [line for line in (buyer.name, *buyer.lines, buyer.email) if line],
        "lines": [
            [line.description, _period(printed, line), str(line.quantity), printed.money(line.amount)]
            for line in printed.lines
        ],
        "notes": [line for line in seller.note.splitlines() if line.strip()],
        "words": {
            "from": words("From"),
            "to": words("Credited to" if printed.credit else "Bill to"),
            "description": words("Description"),
            "quantity": words("Quantity"),
            "amount": words("Amount"),
            "test": words("Test: no money was moved"),
        },
    }


def _period(printed: Printed, line: PrintedLine) -> str:
    """The period of a line as text. The last day shown is the first day of the next period."""
    if line.period_start is None:
        return ""
    start = printed.day(line.period_start)
    if line.period_end is None:
        return printed.words("from {day}", day=start)
    return f"{start} \N{EN DASH} {printed.day(line.period_end)}"


def _about_invoice(printed: Printed) -> dict[str, Any]:
    words, paid_on = printed.words, printed.day(printed.issued_at)
    due = printed.money(printed.amount_due)
    sums = [*_sums(printed), [words("Total"), printed.money(printed.total), True]]
    if printed.balance_applied > 0:
        sums.append([words("From your balance"), printed.money(-printed.balance_applied), False])
    elif printed.balance_applied < 0:
        sums.append([words("Added to your balance"), printed.money(-printed.balance_applied), False])
    sums += [[words("Amount due"), due, True], [words("Paid on {day}", day=paid_on), due, False]]
    return {
        "headline": [due, words("paid on {day}", day=paid_on)],
        "facts": [
            [words("Invoice number"), [printed.number]],
            [words("Date of issue"), [paid_on]],
            [words("Payment method"), [printed.method]],
            [words("Reference"), [printed.reference]],
        ],
        "sums": sums,
    }


def _about_credit(printed: Printed, credit: Credit) -> dict[str, Any]:
    words, given, on = printed.words, printed.money(printed.total), printed.day(printed.issued_at)
    invoiced = printed.day(credit.invoice_issued_at)
    return {
        "headline": [given, words("credited on {day}", day=on)],
        "facts": [
            [words("Credit note number"), [printed.number]],
            [words("Date of issue"), [on]],
            [words("For invoice"), [words("{number} of {day}", number=credit.invoice_number, day=invoiced)]],
            [words("Credited to"), [words("your balance") if credit.to_balance else printed.method]],
            [words("Reason"), [credit.reason]],
            [words("Reference"), [printed.reference]],
        ],
        "sums": [*_sums(printed), [words("Total credited"), given, True]],
    }


def _sums(printed: Printed) -> list[list[Any]]:
    if printed.tax == 0:
        return []
    words = printed.words
    tax = words("Tax {rate}", rate=words.rate(printed.tax_rate)) if printed.tax_rate else words("Tax")
    return [[words("Net"), printed.money(printed.subtotal), False], [tax, printed.money(printed.tax), False]]
