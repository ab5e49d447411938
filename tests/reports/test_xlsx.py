"""XLSX as a spreadsheet reads it: read back from its XML, with nothing of ours between."""

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.factory import Factory
from tests.reports.conftest import Reports

NS = {"m": "http://schemas.openxmlformats.org/spreadsheetml/2006/main"}
AT = datetime(2026, 1, 15, 12, 30, 15, tzinfo=UTC)


@dataclass(frozen=True)
class Cell:
    """A cell's value, and the number format that it is shown in."""

    value: Any
    shown_as: str = "General"


class Book:
    """The sheets of a workbook as lists of rows."""

    def __init__(self, content: bytes) -> None:
        self.zip = zipfile.ZipFile(io.BytesIO(content))
        assert self.zip.testzip() is None
        styles = self._xml("xl/styles.xml")
        custom = {f.get("numFmtId", ""): f.get("formatCode", "") for f in styles.iterfind("m:numFmts/m:numFmt", NS)}
        builtin = {"0": "General", "3": "#,##0", "4": "#,##0.00"}
        self._formats = [(custom | builtin)[x.get("numFmtId", "")] for x in styles.iterfind("m:cellXfs/m:xf", NS)]
        names = [sheet.get("name") for sheet in self._xml("xl/workbook.xml").iterfind("m:sheets/m:sheet", NS)]
        self.sheets = {
            name: list(self._rows(self._xml(f"xl/worksheets/sheet{i}.xml"))) for i, name in enumerate(names, 1)
        }

    def _xml(self, name: str) -> ET.Element:
        return ET.fromstring(self.zip.read(name))

    def _rows(self, sheet: ET.Element) -> Iterator[dict[str, Cell]]:
        assert sheet.find(".//m:f", NS) is None, "a formula"
        assert sheet.find(".//m:hyperlink", NS) is None, "a link"
        for row in sheet.iterfind("m:sheetData/m:row", NS):
            yield {re.sub(r"\d", "", c.get("r", "")): self._cell(c) for c in row.iterfind("m:c", NS)}

    def _cell(self, cell: ET.Element) -> Cell:
        shown_as = self._formats[int(cell.get("s", "0"))]
        if cell.get("t") == "inlineStr":
            return Cell("".join(cell.itertext()), shown_as)
        return Cell(float(cell.findtext("m:v", "", NS)), shown_as)


def table(rows: list[dict[str, Cell]]) -> list[dict[str, Cell]]:
    """The rows by the names in the first."""
    names = {letter: cell.value for letter, cell in rows[0].items()}
    return [{names[letter]: cell for letter, cell in row.items()} for row in rows[1:]]


def test_numbers_are_numbers_and_times_are_times(make: Factory, reports: Reports):
    store = make.store()
    user, package = make.user(name="Ann"), make.package(store, name="Gold")
    payment = make.payment(store, user, package=package, amount=123456, created_at=AT)
    make.payment(store, user, amount=1234, currency="JPY", created_at=AT + timedelta(seconds=1))
    make.payment(store, user, amount=1234, currency="KWD", created_at=AT + timedelta(seconds=2))
    book = Book(reports.built(store, form="xlsx"))
    assert list(book.sheets) == ["Payments"]
    euro, yen, dinar = table(book.sheets["Payments"])
    assert euro["id"] == Cell(str(payment.id))
    assert euro["amount"] == Cell(123456)
    assert euro["amount_decimal"] == Cell(1234.56, "#,##0.00")
    assert (euro["user_name"], euro["package_name"]) == (Cell("Ann"), Cell("Gold"))
    assert euro["created_at_utc"].shown_as == "yyyy-mm-dd hh:mm:ss"
    spreadsheet_day_zero = datetime(1899, 12, 30, tzinfo=UTC)
    shown = spreadsheet_day_zero + timedelta(days=euro["created_at_utc"].value)
    assert abs(shown - AT) < timedelta(milliseconds=1)
    assert yen["amount_decimal"] == Cell(1234, "#,##0")
    assert dinar["amount_decimal"] == Cell(1.234, "#,##0.000")
    assert "failure_code" not in euro
    assert "package_name" not in yen


def test_nothing_a_user_wrote_is_a_formula_or_a_link(make: Factory, reports: Reports):
    store = make.store()
    texts = [
        "=1+1",
        "{=1+1}",
        "http://example.com",
        "mailto:x@example.com",
        "+1",
        "@a",
        "1234",
        "<&>\"'",
        " x ",
        "a\nb",
    ]
    for i, text in enumerate(texts):
        make.payment(store, description=text, created_at=AT + timedelta(seconds=i))
    rows = table(Book(reports.built(store, form="xlsx")).sheets["Payments"])
    assert [row["description"] for row in rows] == [Cell(text) for text in texts]


def test_characters_that_xml_cannot_have_do_not_break_the_document(make: Factory, reports: Reports):
    store = make.store()
    make.payment(store, description="a\x01b\x0b\x1f\ufffe😀")
    (row,) = table(Book(reports.built(store, form="xlsx")).sheets["Payments"])
    assert re.fullmatch(r"a_x0001_b_x000B__x001F__xFFFE_😀", row["description"].value)


def test_a_full_sheet_is_followed_by_another(make: Factory, reports: Reports, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dues.reports.formats.xlsx.SHEET_ROWS", 100)
    store = make.store()
    make.payments(store, 250, users=[make.user()])
    book = Book(reports.built(store, form="xlsx"))
    sheets = {name: table(rows) for name, rows in book.sheets.items()}
    assert {name: len(rows) for name, rows in sheets.items()} == {"Payments": 100, "Payments 2": 100, "Payments 3": 50}
    ids = [row["id"].value for rows in sheets.values() for row in rows]
    assert ids == [str(row.id) for row in make.rows("select id from payments order by created_at, id")]


def test_a_sheet_that_is_just_full_is_the_last(make: Factory, reports: Reports, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dues.reports.formats.xlsx.SHEET_ROWS", 100)
    store = make.store()
    make.payments(store, 100, users=[make.user()])
    assert list(Book(reports.built(store, form="xlsx")).sheets) == ["Payments"]


def test_revenue(make: Factory, reports: Reports):
    store = make.store()
    make.payment(store, package=make.package(store, name="Gold"), amount=1500, created_at=AT)
    book = Book(reports.built(store, "revenue", "xlsx"))
    (row,) = table(book.sheets["Revenue"])
    assert (row["month"], row["package_name"], row["payments"]) == (Cell("2026-01"), Cell("Gold"), Cell(1))
    assert (row["net"], row["net_decimal"]) == (Cell(1500), Cell(15, "#,##0.00"))
