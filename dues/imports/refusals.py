"""What an import has refused and why, as a CSV: a line for each row, written as reports are (dues/reports/formats)."""

import secrets
from uuid import UUID

from dues.imports.service import RefusalsFile, import_folder
from dues.reports.files import Draft, FileStore
from dues.reports.formats.csv import CSVDocument
from dues.reports.rows import Column, Rows
from dues.reports.snapshot import snapshot

_ROWS = Rows(
    kind="refusals",
    columns=(
        Column("line", "r.line", "integer"),
        Column("external_id", "r.external_id", "text"),
        Column("code", "r.code", "word"),
        Column("pointer", "r.pointer", "text"),
        Column("detail", "r.detail", "text"),
    ),
    source="from import_refusals r where r.store_id = %(store_id)s and r.import_id = %(import_id)s",
    order="r.line",
    streams=True,
)


class _Lines:
    """Takes lines as COPY writes them."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft

    def write(self, line: bytes) -> None:
        self._draft.write(line[:-1] + b"\r\n")


def write_refusals(store_id: UUID, import_id: UUID, files: FileStore) -> RefusalsFile:
    """Write the file. What an attempt before has left of it is removed first. Raises: OSError."""
    folder = f"{import_folder(store_id, import_id)}/refused"
    files.delete(folder)
    key = f"{folder}/{secrets.token_hex(8)}.csv"
    with files.create(key) as draft:
        draft.write(",".join(column.title for column in _ROWS.columns).encode() + b"\r\n")
        with snapshot(streams=True) as source:
            source.copy(CSVDocument.copy(_ROWS), {"store_id": store_id, "import_id": import_id}, _Lines(draft))
        size, digest = draft.size, draft.sha256()
    return RefusalsFile(key, size, digest)
