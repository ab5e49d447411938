"""PDF of revenue: for each currency its totals, a chart by month, and a table by month and package."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import NamedTuple

import ujson

from dues.money import format_money, minor_digits
from dues.pdf.page import ACCENT, GREY, LEFT, RIGHT, RULE, SHADE, Pages
from dues.pdf.text import printable
from dues.reports.files import Draft
from dues.reports.formats.chart import Bar, draw_bars
from dues.reports.formats.document import DRAWN_CELLS, Document, Heading, copy_json
from dues.reports.rows import Rows

_ROW = 14.0
_CHART = 170.0
# Right edges of the table's columns of numbers, after the package's name.
_EDGES = (RIGHT - 272, RIGHT - 182, RIGHT - 93, RIGHT - 4)
_TITLES = ("Payments", "Gross", "Refunded", "Net")


class Line(NamedTuple):
    """What one package took in one month, in minor units."""

    month: str
    package: str
    payments: int
    gross: int
    refunded: int
    net: int


@dataclass
class Section:
    """One currency."""

    currency: str
    lines: list[Line] = field(default_factory=list)

    def total(self) -> Line:
        return _sum("", self.lines)

    def months(self) -> Iterator[tuple[Line, list[Line]]]:
        """Each month's sum and its lines, in order."""
        for month, lines in groupby(self.lines, key=lambda line: line.month):
            listed = list(lines)
            yield _sum(month, listed), listed


class PDFDocument(Document):
    """Its rows are months by packages, few enough to be kept until the totals in front of them are known."""

    media_type = "application/pdf"
    extension = "pdf"

    def __init__(self, draft: Draft, heading: Heading) -> None:
        super().__init__(draft, heading)
        self._names = [column.name for column in heading.rows.columns]
        self._sections: dict[str, Section] = {}

    @staticmethod
    def copy(rows: Rows) -> str:
        return copy_json(rows.select_arrays(DRAWN_CELLS))

    def add(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            row = dict(zip(self._names, ujson.loads(line), strict=True))
            section = self._sections.setdefault(row["currency"], Section(row["currency"]))
            package = "Without a package"
            if row["package_id"]:
                package = printable(row["package_name"]) or f"Package {row['package_id']}"
            section.lines.append(
                Line(row["month"], package, row["payments"], row["gross"], row["refunded"], row["net"])
            )

    def finish(self) -> None:
        heading = self.heading
        covers = f"{_day(heading.range_from)} to {_day(heading.range_to - timedelta(microseconds=1))} (UTC)"
        store = printable(heading.store_name) or f"Store {heading.store_id}"
        pages = Pages(f"Revenue of {heading.store_name}", f"{store}: revenue, {covers}")
        _draw_head(pages, store, covers, heading.created_at)
        if not self._sections:
            pages.text(LEFT, pages.y, "There were no payments in this time.", size=11, color=GREY)
        # The currency with the most payments first: amounts in different ones do not compare.
        for section in sorted(self._sections.values(), key=lambda s: -s.total().payments):
            _draw_section(pages, section)
        self.draft.write(pages.finish())


def _sum(month: str, lines: Sequence[Line]) -> Line:
    return Line(
        month,
        "",
        sum(line.payments for line in lines),
        sum(line.gross for line in lines),
        sum(line.refunded for line in lines),
        sum(line.net for line in lines),
    )


def _draw_head(pages: Pages, store: str, covers: str, made_at: datetime) -> None:
    pages.text(LEFT, pages.y - 20, "Revenue", size=24, bold=True)
    pages.text(LEFT, pages.y - 42, store, size=13, width=RIGHT - LEFT)
    pages.text(LEFT, pages.y - 58, covers, color=GREY)
    made = f"As of {made_at.astimezone(UTC):%d %B %Y, %H:%M} UTC. "
    notes = made + "A refund counts in the month of its payment."
    pages.text(LEFT, pages.y - 71, notes, color=GREY)
    pages.y -= 92


def _draw_section(pages: Pages, section: Section) -> None:
    pages.on_new_page = None
    pages.room(48 + 54 + _CHART + 6 * _ROW)
    pages.line(LEFT, RIGHT, pages.y)
    pages.text(LEFT, pages.y - 22, section.currency, size=15, bold=True, color=ACCENT)
    pages.y -= 38
    _draw_totals(pages, section)
    bars = [Bar(_short(month), line.net, line.refunded) for month, line in _every_month(section)]
    draw_bars(pages, bars, height=_CHART, scale=10 ** minor_digits(section.currency))
    _draw_table(pages, section)
    pages.on_new_page = None
    pages.y -= 24


def _draw_totals(pages: Pages, section: Section) -> None:
    total = section.total()
    figures = (
        ("Net", format_money(total.net, section.currency)),
        ("Gross", format_money(total.gross, section.currency)),
        ("Refunded", format_money(total.refunded, section.currency)),
        ("Payments", f"{total.payments:,}"),
    )
    step = (RIGHT - LEFT) / len(figures)
    for i, (name, figure) in enumerate(figures):
        pages.text(LEFT + i * step, pages.y - 8, name, size=8, color=GREY)
        pages.text(LEFT + i * step, pages.y - 23, figure, size=12, bold=True, width=step - 8, shrink=True)
    pages.y -= 46


def _draw_table(pages: Pages, section: Section) -> None:
    pages.y -= 12
    _draw_titles(pages)
    for total, lines in section.months():
        pages.on_new_page = lambda: _draw_titles(pages)
        pages.room(2 * _ROW)
        _draw_month(pages, section.currency, total, _long(total.month))

        def continued(total: Line = total) -> None:
            _draw_titles(pages)
            _draw_month(pages, section.currency, total, f"{_long(total.month)}, continued")

        pages.on_new_page = continued
        for line in lines:
            pages.room(_ROW)
            pages.text(LEFT + 12, pages.y - 10, line.package, width=_EDGES[0] - LEFT - 62)
            _draw_figures(pages, section.currency, line, bold=False)
            pages.y -= _ROW


def _draw_titles(pages: Pages) -> None:
    pages.text(LEFT, pages.y - 8, "Month and package", size=8, color=GREY)
    for edge, title in zip(_EDGES, _TITLES, strict=True):
        pages.text(edge, pages.y - 8, title, size=8, color=GREY, align="right")
    pages.y -= 14
    pages.line(LEFT, RIGHT, pages.y, RULE)


def _draw_month(pages: Pages, currency: str, total: Line, name: str) -> None:
    pages.box(LEFT, pages.y - _ROW, RIGHT - LEFT, _ROW, SHADE)
    pages.text(LEFT + 4, pages.y - 10, name, bold=True)
    _draw_figures(pages, currency, total, bold=True)
    pages.y -= _ROW


def _draw_figures(pages: Pages, currency: str, line: Line, *, bold: bool) -> None:
    amounts = (format_money(n, currency).removesuffix(f" {currency}") for n in (line.gross, line.refunded, line.net))
    for edge, figure in zip(_EDGES, (f"{line.payments:,}", *amounts), strict=True):
        pages.text(edge, pages.y - 10, figure, bold=bold, align="right")


def _every_month(section: Section) -> Iterator[tuple[str, Line]]:
    """From the first month with payments to the last, those without any too."""
    totals = {total.month: total for total, _ in section.months()}
    month, last = min(totals), max(totals)
    while month <= last:
        yield month, totals.get(month) or Line(month, "", 0, 0, 0, 0)
        year, number = int(month[:4]), int(month[5:])
        month = f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def _day(moment: datetime) -> str:
    day = moment.astimezone(UTC)
    return f"{day.day} {day:%B %Y}"


def _long(month: str) -> str:
    return f"{datetime.fromisoformat(f'{month}-01'):%B %Y}"


def _short(month: str) -> str:
    return f"{datetime.fromisoformat(f'{month}-01'):%b %y}"
