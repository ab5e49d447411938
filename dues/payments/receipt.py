"""A payment's receipt as a PDF page."""

from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO

from reportlab.lib.colors import Color, HexColor
from reportlab.lib.pagesizes import A4
from reportlab.pdfgen.canvas import Canvas

from dues.money import format_money
from dues.pdf.text import draw, printable, wrap

STATUS_WORDS = {"succeeded": "Paid", "partially_refunded": "Partially refunded", "refunded": "Refunded"}

_INK, _QUIET, _RULE = HexColor("#1b2430"), HexColor("#5f6b7a"), HexColor("#d5dae1")
_WIDTH, _HEIGHT = A4
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, _WIDTH - 64.0, _HEIGHT - 84.0, 84.0


@dataclass(frozen=True, slots=True)
class Line:
    """What was paid for, and how much in minor units of the receipt's currency."""

    description: str
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a receipt says. Amounts are minor units of `currency`; `status` is the payment's.

    `store_slug` is printed where the store's name is in a script that cannot be (dues/pdf/text.py).
    """

    number: str
    store: str
    store_slug: str
    payer: str
    payer_email: str
    paid_at: datetime
    currency: str
    lines: tuple[Line, ...]
    status: str = "succeeded"
    refunded: int = 0

    @property
    def amount(self) -> int:
        return sum(line.amount for line in self.lines)

    @property
    def date(self) -> str:
        """For people: `20 November 2026`, in UTC."""
        day = self.paid_at.astimezone(UTC)
        return f"{day.day} {day:%B %Y}"

    def money(self, amount: int) -> str:
        return format_money(amount, self.currency)


def receipt_pdf(receipt: Receipt) -> bytes:
    """The receipt as a PDF. The same receipt gives the same bytes."""
    file = BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=1)
    canvas.setTitle(f"Receipt {receipt.number}")
    canvas.setAuthor(receipt.store)
    canvas.setCreator("Dues")
    sheet = _Sheet(canvas, footer=f"Receipt {receipt.number}")
    _head(sheet, receipt)
    _facts(sheet, receipt)
    _amounts(sheet, receipt)
    sheet.end()
    return file.getvalue()


def _head(sheet: "_Sheet", receipt: Receipt) -> None:
    sheet.text(_RIGHT, "Receipt", 12, colour=_QUIET, right=True)
    for line in wrap(printable(receipt.store) or receipt.store_slug, 20, _RIGHT - _LEFT - 90, bold=True):
        sheet.text(_LEFT, line, 20, bold=True)
        sheet.down(26)
    sheet.down(26)
    sheet.text(_LEFT, f"{receipt.money(receipt.amount)} paid on {receipt.date}", 15, bold=True)
    sheet.down(34)


def _facts(sheet: "_Sheet", receipt: Receipt) -> None:
    payer = printable(receipt.payer)
    moment = receipt.paid_at.astimezone(UTC)
    facts = [
        ("Receipt number", [receipt.number]),
        ("Date", [f"{receipt.date}, {moment:%H:%M} UTC"]),
        ("Paid by", [*([payer] if payer else []), printable(receipt.payer_email) or ""]),
        ("Status", [STATUS_WORDS.get(receipt.status, receipt.status)]),
    ]
    for name, values in facts:
        sheet.text(_LEFT, name, 10, colour=_QUIET)
        for value in values:
            for line in wrap(value, 10, _RIGHT - _LEFT - 110):
                sheet.text(_LEFT + 110, line, 10)
                sheet.down(16)
        sheet.down(2)
    sheet.down(26)


def _amounts(sheet: "_Sheet", receipt: Receipt) -> None:
    sheet.text(_LEFT, "Description", 9, colour=_QUIET)
    sheet.text(_RIGHT, "Amount", 9, colour=_QUIET, right=True)
    sheet.rule()
    for item in receipt.lines:
        sheet.keep(48)
        sheet.text(_RIGHT, receipt.money(item.amount), 11, right=True)
        for line in wrap(printable(item.description) or "Payment", 11, _RIGHT - _LEFT - 150):
            sheet.text(_LEFT, line, 11)
            sheet.down(16)
        sheet.down(-9)
        sheet.rule()
    totals = [("Total paid", receipt.amount)]
    if receipt.refunded:
        totals += [("Refunded", -receipt.refunded), ("Total after refunds", receipt.amount - receipt.refunded)]
    for name, amount in totals:
        strong = name != "Refunded"
        sheet.text(_RIGHT - 150, name, 11, bold=strong, right=True)
        sheet.text(_RIGHT, receipt.money(amount), 11, bold=strong, right=True)
        sheet.down(20)


class _Sheet:
    """Pages with a place to write next, `y`, which moves down; a full page is followed by another."""

    def __init__(self, canvas: Canvas, footer: str) -> None:
        self._canvas = canvas
        self._footer = footer
        self.y = _TOP

    def text(
        self, x: float, text: str, size: float, *, bold: bool = False, right: bool = False, colour: Color = _INK
    ) -> None:
        self._canvas.setFillColor(colour)
        draw(self._canvas, x, self.y, text, size, bold=bold, right=right)

    def rule(self) -> None:
        self.down(8)
        self._canvas.setStrokeColor(_RULE)
        self._canvas.setLineWidth(0.75)
        self._canvas.line(_LEFT, self.y, _RIGHT, self.y)
        self.down(18)

    def down(self, points: float) -> None:
        self.y -= points
        if self.y < _BOTTOM:
            self._turn()

    def keep(self, points: float) -> None:
        """Turn the page if fewer `points` are left on it."""
        if self.y - points < _BOTTOM:
            self._turn()

    def end(self) -> None:
        self._finish()
        self._canvas.save()

    def _turn(self) -> None:
        self._finish()
        self._canvas.showPage()
        self.y = _TOP

    def _finish(self) -> None:
        self._canvas.setFillColor(_QUIET)
        draw(self._canvas, _LEFT, 48, self._footer, 8)
        draw(self._canvas, _RIGHT, 48, f"Page {self._canvas.getPageNumber()}", 8, right=True)
