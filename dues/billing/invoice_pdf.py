"""Invoices and credit notes as they are printed: what they say, as data that is kept, and the document as a PDF."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from dues.clock import day_in
from dues.money import format_money
from dues.payments.receipt import Payer, Seller
from dues.pdf import typeset

_TEMPLATE = "billing/templates/invoice.typ"


class PrintedLine(Struct, frozen=True, kw_only=True):
    """`amount` is below zero where something is given back."""

    description: str
    amount: int
    quantity: int = 1
    period_start: datetime | None = None
    period_end: datetime | None = None


class Credit(Struct, frozen=True, kw_only=True):
    """What makes the document a credit note: the final invoice that it corrects, and where the money went."""

    invoice_id: str
    invoice_number: str
    invoice_issued_at: datetime
    reason: str = ""
    to_balance: bool = False


class Printed(Struct, frozen=True, kw_only=True):
    """What an invoice says; with `credit` a credit note.

    Amounts are minor units of `currency`; `balance_applied` came from the buyer's balance, or below zero went there.
    Dates are those of the store's `timezone`. `test`: the store is a test store, where nobody pays money.
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

    @property
    def title(self) -> str:
        return "Credit note" if self.credit else "Invoice"

    def money(self, amount: int) -> str:
        return format_money(amount, self.currency)

    def day(self, moment: datetime) -> str:
        return day_in(moment, self.timezone)


def invoice_pdf(printed: Printed) -> bytes:
    """The document as a PDF. The same data give the same bytes. Needs an application context."""
    return typeset(_TEMPLATE, _shown(printed), printed.issued_at, country=printed.seller.country)


def _shown(printed: Printed) -> dict[str, Any]:
    """What the template shows, word for word."""
    seller, buyer = printed.seller, printed.buyer
    contact = " · ".join(word for word in (seller.contact_email, seller.website) if word)
    about = _about_credit(printed, printed.credit) if printed.credit else _about_invoice(printed)
    return about | {
        "title": printed.title,
        "number": printed.number,
        "is_test": printed.test,
        "seller": {"name": seller.name, "lines": [line for line in (*seller.lines, contact) if line]},
        "buyer": [line for line in (buyer.name, *buyer.lines, buyer.email) if line],
        "lines": [
            [line.description, _period(printed, line), str(line.quantity), printed.money(line.amount)]
            for line in printed.lines
        ],
        "notes": [line for line in seller.note.splitlines() if line.strip()],
    }


def _period(printed: Printed, line: PrintedLine) -> str:
    """The day on which it ends is the first of the next period."""
    if line.period_start is None:
        return ""
    start = printed.day(line.period_start)
    return f"{start} \N{EN DASH} {printed.day(line.period_end)}" if line.period_end else f"from {start}"


def _about_invoice(printed: Printed) -> dict[str, Any]:
    paid_on = printed.day(printed.issued_at)
    due = printed.money(printed.amount_due)
    sums = [*_sums(printed), ["Total", printed.money(printed.total), True]]
    if printed.balance_applied > 0:
        sums.append(["From your balance", printed.money(-printed.balance_applied), False])
    elif printed.balance_applied < 0:
        sums.append(["Added to your balance", printed.money(-printed.balance_applied), False])
    sums += [["Amount due", due, True], [f"Paid on {paid_on}", due, False]]
    return {
        "headline": [due, f"paid on {paid_on}"],
        "facts": [
            ["Invoice number", [printed.number]],
            ["Date of issue", [paid_on]],
            ["Payment method", [printed.method]],
            ["Reference", [printed.reference]],
        ],
        "sums": sums,
    }


def _about_credit(printed: Printed, credit: Credit) -> dict[str, Any]:
    given, on = printed.money(printed.total), printed.day(printed.issued_at)
    return {
        "headline": [given, f"credited on {on}"],
        "facts": [
            ["Credit note number", [printed.number]],
            ["Date of issue", [on]],
            ["For invoice", [f"{credit.invoice_number} of {printed.day(credit.invoice_issued_at)}"]],
            ["Credited to", ["your balance" if credit.to_balance else printed.method]],
            ["Reason", [credit.reason]],
            ["Reference", [printed.reference]],
        ],
        "sums": [*_sums(printed), ["Total credited", given, True]],
    }


def _sums(printed: Printed) -> list[list[Any]]:
    if printed.tax == 0:
        return []
    return [["Subtotal", printed.money(printed.subtotal), False], ["Tax", printed.money(printed.tax), False]]
