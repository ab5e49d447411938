"""Building a report: from a snapshot of the database through a format into the file store."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass

from dues.clock import now
from dues.failpoints import failpoint
from dues.reports.files import Draft, FileStore, report_folder, report_key
from dues.reports.formats import FORMATS, Document, Heading
from dues.reports.kinds import KINDS
from dues.reports.models import Report
from dues.reports.snapshot import snapshot

# Called with (rows written, rows in all); an exception from it stops the building.
Progress = Callable[[int, int], object]

# Enough that the work per line is one append; few enough that lines of any length are little memory.
_BATCH_ROWS = 1000
_PROGRESS_EVERY_S = 0.25


@dataclass(frozen=True)
class BuiltFile:
    """A finished document in the file store. `rows` are those of data; `sha256` is hexadecimal."""

    key: str
    media_type: str
    rows: int
    bytes: int
    sha256: str


class RowSink:
    """Takes a document's lines from PostgreSQL in batches, and says how far it has come."""

    def __init__(self, document: Document, total: int, progress: Progress) -> None:
        self.rows = 0
        self._document = document
        self._total = total
        self._progress = progress
        self._lines: list[bytes] = []
        self._reported_at = time.monotonic()

    def write(self, line: bytes) -> None:
        self._lines.append(line)
        if len(self._lines) == _BATCH_ROWS:
            self.flush()

    def flush(self) -> None:
        if not self._lines:
            return
        self._document.add(self._lines)
        self.rows += len(self._lines)
        self._lines.clear()
        failpoint("report.after_batch")
        if time.monotonic() - self._reported_at >= _PROGRESS_EVERY_S:
            self._progress(self.rows, self._total)
            self._reported_at = time.monotonic()


def build_file(report: Report, files: FileStore, progress: Progress) -> BuiltFile:
    """Write the report's file. What earlier attempts left, finished or not, is removed first.

    Raises: whatever `progress` raises, and leaves no file then.
    """
    document_type = FORMATS[report.format]
    files.delete(report_folder(report.id))
    key = report_key(report.id, document_type.extension)
    with files.create(key) as draft:
        rows = _write(report, draft, document_type, progress)
    return BuiltFile(key, document_type.media_type, rows, draft.size, draft.sha256())


def _write(report: Report, draft: Draft, document_type: type[Document], progress: Progress) -> int:
    rows = KINDS[report.kind]
    values = {
        "store_id": report.store_id,
        "range_from": report.range_from,
        "range_to": report.range_to,
        "timezone": report.timezone,
    }
    with ExitStack() as held:
        with snapshot(streams=rows.streams) as source:
            store_name: str = source.value("select name from stores where id = %(store_id)s", values)
            total: int = source.value(rows.count(), values)
            beside = source.value(rows.beside, values) if rows.beside and document_type.is_drawn else None
            progress(0, total)
            heading = Heading(
                report.id,
                report.store_id,
                store_name,
                rows,
                report.range_from,
                report.range_to,
                now(),
                total,
                report.timezone,
                report.bom,
                beside,
            )
            document = held.enter_context(closing(document_type(draft, heading)))
            sink = RowSink(document, total, progress)
            source.copy(document_type.copy(rows), values, sink)
            sink.flush()
        # After the snapshot has ended: zipping a workbook takes long, and needs no snapshot.
        document.finish()
    progress(sink.rows, total)
    return sink.rows
