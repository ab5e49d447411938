"""JSON: `{"report": {…}, "data": [{…}, …]}`, a row to a line, each written by PostgreSQL."""

from collections.abc import Sequence

import ujson

from dues.clock import rfc3339, sql_rfc3339
from dues.reports.files import Draft
from dues.reports.formats.document import Document, Heading, copy_json
from dues.reports.rows import CellType, Rows

_CELLS: dict[CellType, str] = {
    # Text, because many readers of JSON turn a number into a binary fraction.
    "decimal": "({0})::text",
    "time": sql_rfc3339("{0}"),
    "month": "to_char({0}, 'YYYY-MM')",
}


class JSONDocument(Document):
    media_type = "application/json"
    extension = "json"

    def __init__(self, draft: Draft, heading: Heading) -> None:
        super().__init__(draft, heading)
        report = {
            "id": str(heading.report_id),
            "store_id": str(heading.store_id),
            "kind": heading.rows.kind,
            "from": rfc3339(heading.range_from),
            "to": rfc3339(heading.range_to),
            "timezone": heading.timezone,
            "created_at": rfc3339(heading.created_at),
            "rows": heading.count,
        }
        draft.write(f'{{"report":{ujson.dumps(report, escape_forward_slashes=False)},"data":['.encode())
        self._separator = b"\n"

    @staticmethod
    def copy(rows: Rows) -> str:
        return copy_json(f"select row_to_json(r) from ({rows.select(_CELLS)}) r")

    def add(self, lines: Sequence[bytes]) -> None:
        # Each line ends in a line feed; the comma goes in front of all but the first.
        self.draft.write(self._separator + b",".join(lines))
        self._separator = b","

    def finish(self) -> None:
        self.draft.write(b"]}\n")
