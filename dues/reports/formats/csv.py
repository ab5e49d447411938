"""CSV (RFC 4180): the lines go to the file as PostgreSQL wrote them, each ended by CRLF.

What users wrote is quoted, and can begin no formula however a spreadsheet cuts the line (CWE-1236; OWASP, "CSV
Injection"): one that takes semicolons or tabs for separators does not see our quotes where they are, and takes what
follows a semicolon within a text for a cell. So an apostrophe, which makes a cell text, goes in front of whatever could
begin a formula at the beginning of a text, or behind anything in it that people separate cells or lines by.
"""

from collections.abc import Sequence

from dues.clock import sql_rfc3339
from dues.reports.files import Draft
from dues.reports.formats.document import Document, Heading
from dues.reports.rows import CellType, Rows
from dues.text import INVISIBLE

_SEPARATORS = r",;|\t\n\v\f\r\u0085\u2028\u2029"
# What spreadsheets may drop in front of a cell's value, quotes among it.
_DROPPED = rf'\s"{INVISIBLE}'
# = + - @, their full-width and small forms, and the minus sign, which some take for a hyphen.
_STARTS = r"=+\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b\u2212"
_FORMULA = f"(^|[{_SEPARATORS}])(?=[{_DROPPED}]*[{_STARTS}])"

_CELLS: dict[CellType, str] = {
    "text": f"regexp_replace({{0}}, '{_FORMULA}', '\\1''', 'g')",
    "time": sql_rfc3339("{0}"),
    "month": "to_char({0}, 'YYYY-MM')",
}
_BOM = b"\xef\xbb\xbf"


class CSVDocument(Document):
    media_type = "text/csv"
    extension = "csv"

    def __init__(self, draft: Draft, heading: Heading) -> None:
        super().__init__(draft, heading)
        titles = ",".join(column.title for column in heading.rows.columns)
        draft.write((_BOM if heading.bom else b"") + titles.encode() + b"\r\n")

    @staticmethod
    def copy(rows: Rows) -> str:
        texts = ", ".join(column.name for column in rows.columns if column.type == "text")
        quoted = f", force_quote ({texts})" if texts else ""
        return f"copy ({rows.select(_CELLS)}) to stdout (format csv, encoding 'UTF8'{quoted})"

    def add(self, lines: Sequence[bytes]) -> None:
        self.draft.write(b"\r\n".join(line[:-1] for line in lines) + b"\r\n")

    def finish(self) -> None:
        pass
