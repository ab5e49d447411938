"""PDF of revenue: for each currency its totals, a chart by month, and tables by package and by month.

Its layout is templates/revenue.typ; this module makes its content.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import ujson

from dues.money import format_money, minor_digits
from dues.pdf.typesetter import typeset
from dues.reports.files import Draft
from dues.reports.formats.chart import Bar, chart
from dues.reports.formats.document import DRAWN_CELLS, Document, Heading, copy_json
from dues.reports.formats.memberships import memberships_of
from dues.reports.rows import Rows

_TEMPLATE = "reports/templates/revenue.typ"
_TITLES = ["Payments", "Gross", "Refunded", "Net"]
# Of packages in months, over all currencies: what a typesetter can hold, and more than anybody reads.
_MOST_LINES = 4000
_WITHOUT = "Without a package"
_REFUNDS = "A refund counts in the month in which it was made; what came back of one, in the month in which it came."


class Line(NamedTuple):
    """What one package took in one month, in minor units. `key` tells packages of one name apart."""

    month: str
    package: str
    key: str | None
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
        return _sum("", "", self.lines)

    def packages(self) -> list[Line]:
        """Each package's sum over all months, the one that took most first."""
        of_package: dict[str | None, list[Line]] = {}
        for line in self.lines:
            of_package.setdefault(line.key, []).append(line)
        return sorted((_sum("", lines[0].package, lines) for lines in of_package.values()), key=lambda sum_: -sum_.net)

    def months(self) -> Iterator[tuple[Line, list[Line]]]:
        """Each month's sum and its lines, in order."""
        for month, lines in groupby(self.lines, key=lambda line: line.month):
            listed = list(lines)
            yield _sum(month, "", listed), listed


class PDFDocument(Document):
    """Its rows are months by packages, few enough to be kept until the totals in front of them are known."""

    media_type = "application/pdf"
    extension = "pdf"
    is_drawn = True

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
            package = (row["package_name"] or f"Package {row['package_id']}") if row["package_id"] else _WITHOUT
            section.lines.append(
                Line(
                    row["month"],
                    package,
                    row["package_id"],
                    row["payments"],
                    row["gross"],
                    row["refunded"],
                    row["net"],
                )
            )

    def finish(self) -> None:
        heading = self.heading
        zone = ZoneInfo(heading.timezone)
        last = heading.range_to.astimezone(zone) - timedelta(microseconds=1)
        covers = f"{_day(heading.range_from.astimezone(zone))} to {_day(last)} ({heading.timezone})"
        made_at = heading.created_at.astimezone(UTC)
        made = f"As of {_day(made_at)}, {made_at:%H:%M} UTC."
        memberships = memberships_of(heading.beside or [], zone)
        for currency in memberships:
            self._sections.setdefault(currency, Section(currency))
        # The currency with the most payments first: amounts in different ones do not compare.
        sections = sorted(self._sections.values(), key=lambda section: -section.total().payments)
        is_long = sum(len(section.lines) for section in sections) > _MOST_LINES
        shown = {
            "title": f"Revenue of {heading.store_name}",
            "store": heading.store_name,
            "foot": f"{heading.store_name}: revenue, {covers}",
            "notes": [covers, f"{made} {_REFUNDS}"],
            "columns": _TITLES,
            "is_long": is_long,
            "sections": [
                _shown(section, is_long=is_long) | {"memberships": memberships.get(section.currency)}
                for section in sections
            ],
        }
        # Without its structure, which would be most of a long file.
        self.draft.write(typeset(_TEMPLATE, shown, heading.created_at, tagged=False))


def _sum(month: str, package: str, lines: Sequence[Line]) -> Line:
    return Line(
        month,
        package,
        None,
        sum(line.payments for line in lines),
        sum(line.gross for line in lines),
        sum(line.refunded for line in lines),
        sum(line.net for line in lines),
    )


def _shown(section: Section, *, is_long: bool) -> dict[str, Any]:
    """What the template shows of one currency; of a long report, months without their packages."""
    total, currency = section.total(), section.currency
    # Of a month in which more was given back than taken, nothing was kept.
    bars = [Bar(_short(month), max(line.net, 0), line.refunded) for month, line in _every_month(section)]
    return {
        "currency": currency,
        "totals": [
            ["Net", format_money(total.net, currency)],
            ["Gross", format_money(total.gross, currency)],
            ["Refunded", format_money(total.refunded, currency)],
            ["Payments", f"{total.payments:,}"],
        ],
        "chart": chart(bars, scale=10 ** minor_digits(currency)) if bars else None,
        "packages": [_row(line.package, line, currency) for line in section.packages()],
        "months": [
            _row(_long(month.month), month, currency)
            | {"packages": [] if is_long else [_row(line.package, line, currency) for line in lines]}
            for month, lines in section.months()
        ],
    }


def _row(name: str, line: Line, currency: str) -> dict[str, Any]:
    amounts = (format_money(n, currency).removesuffix(f" {currency}") for n in (line.gross, line.refunded, line.net))
    return {"name": name, "figures": [f"{line.payments:,}", *amounts]}


def _every_month(section: Section) -> Iterator[tuple[str, Line]]:
    """From the first month with payments to the last, those without any too."""
    totals = {total.month: total for total, _ in section.months()}
    if not totals:
        return
    month, last = min(totals), max(totals)
    while month <= last:
        yield month, totals.get(month) or Line(month, "", None, 0, 0, 0, 0)
        year, number = int(month[:4]), int(month[5:])
        month = f"{year + number // 12:04d}-{number % 12 + 1:02d}"


def _day(day: datetime) -> str:
    return f"{day.day} {day:%B %Y}"


def _long(month: str) -> str:
    return f"{datetime.fromisoformat(f'{month}-01'):%B %Y}"


def _short(month: str) -> str:
    return f"{datetime.fromisoformat(f'{month}-01'):%b %y}"
