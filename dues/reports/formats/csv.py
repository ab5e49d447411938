"""CSV (RFC 4180): the lines go to the file as PostgreSQL wrote them."""

from collections.abc import Sequence

from dues.clock import sql_rfc3339
from dues.reports.files import Draft
from dues.reports.formats.document import Document, Heading
from dues.reports.rows import CellType, Rows

# Spreadsheets take a cell for a formula when it begins with one of these: tab, line feed, carriage return, + - = @,
# and the full-width forms of the last four. In front of what users wrote, an apostrophe makes it text.
_FORMULA_STARTS = "9,10,13,43,45,61,64,65291,65293,65309,65312"

_CELLS: dict[CellType, str] = {
    "text": f"case when ascii({{0}}) = any('{{{{{_FORMULA_STARTS}}}}}') then '''' || {{0}} else {{0}} end",
    "time": sql_rfc3339("{0}"),
    "month": "to_char({0} at time zone 'UTC', 'YYYY-MM')",
}


class CSVDocument(Document):
    media_type = "text/csv"
    extension = "csv"

    def __init__(self, draft: Draft, heading: Heading) -> None:
        super().__init__(draft, heading)
        names = (column.name for column in heading.rows.columns)
        draft.write((",".join(names) + "\n").encode())

    @staticmethod
    def copy(rows: Rows) -> str:
        return f"copy ({rows.select(_CELLS)}) to stdout (format csv, encoding 'UTF8')"

    def add(self, lines: Sequence[bytes]) -> None:
        self.draft.write(b"".join(lines))

    def finish(self) -> None:
        pass
