"""XLSX: sheets of at most a million rows, with numbers as numbers and times as times, and no cell a formula.

XlsxWriter keeps one row in memory and the rest in files of the draft's workspace, which it zips at the end.
"""

from collections.abc import Sequence
from typing import Any

import ujson
import xlsxwriter

from dues.money import MINOR_DIGITS, minor_digits
from dues.reports.files import Draft
from dues.reports.formats.document import DRAWN_CELLS, Document, Heading, copy_json
from dues.reports.rows import CellType, Rows

# Below the 1,048,576 that a sheet can hold, and a number that people can reckon with.
SHEET_ROWS = 1_000_000

_WIDTHS: dict[CellType, int] = {
    "id": 38,
    "word": 12,
    "text": 26,
    "time": 20,
    "month": 10,
    "integer": 13,
    "decimal": 15,
}
_UNIX_EPOCH = 25569  # as a spreadsheet counts days
_DAY_S = 86400
_CHUNK = 1024 * 1024


class XLSXDocument(Document):
    media_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    extension = "xlsx"

    def __init__(self, draft: Draft, heading: Heading) -> None:
        super().__init__(draft, heading)
        self._path = draft.workspace / "report.xlsx"
        self._book = xlsxwriter.Workbook(
            self._path, {"constant_memory": True, "tmpdir": str(draft.workspace), "use_zip64": True}
        )
        self._book.set_properties({"title": f"{heading.rows.kind.capitalize()} of {heading.store_name}"})
        self._title_format = self._book.add_format({"bold": True, "bottom": 1})
        self._time_format = self._book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
        self._decimal_formats = {
            digits: self._book.add_format({"num_format": "#,##0" + (f".{'0' * digits}" if digits else "")})
            for digits in {2, *MINOR_DIGITS.values()}
        }
        names = [column.name for column in heading.rows.columns]
        self._types = [column.type for column in heading.rows.columns]
        self._currency = names.index("currency")
        self._sheet: Any = None
        self._sheets = 0
        self._row = 0
        self._add_sheet()

    @staticmethod
    def copy(rows: Rows) -> str:
        return copy_json(rows.select_arrays(DRAWN_CELLS))

    def add(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            if self._row > SHEET_ROWS:
                self._add_sheet()
            self._write(ujson.loads(line))
            self._row += 1

    def finish(self) -> None:
        self._book.close()
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                self.draft.write(chunk)

    def close(self) -> None:
        for sheet in self._book.worksheets():
            # XlsxWriter closes these files in its close(), which would first write all of the document.
            sheet.row_data_fh.close()

    def _add_sheet(self) -> None:
        self._sheets += 1
        name = self.heading.rows.kind.capitalize()
        self._sheet = self._book.add_worksheet(name if self._sheets == 1 else f"{name} {self._sheets}")
        self._sheet.freeze_panes(1, 0)
        for i, column in enumerate(self.heading.rows.columns):
            self._sheet.set_column(i, i, _WIDTHS[column.type])
            self._sheet.write_string(0, i, column.title, self._title_format)
        self._row = 1

    def _write(self, values: list[Any]) -> None:
        sheet, row = self._sheet, self._row
        for i, (kind, value) in enumerate(zip(self._types, values, strict=True)):
            if value is None:
                continue
            if kind == "integer":
                sheet.write_number(row, i, value)
            elif kind == "decimal":
                digits = minor_digits(values[self._currency])
                sheet.write_number(row, i, value, self._decimal_formats[digits])
            elif kind == "time":
                sheet.write_number(row, i, _UNIX_EPOCH + value / _DAY_S, self._time_format)
            else:
                # Never write(), which would make formulas and links of what users wrote.
                sheet.write_string(row, i, value)
