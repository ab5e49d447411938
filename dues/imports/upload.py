"""A file that is sent to be imported, looked at as far as one look tells whether it can be read at all."""

from dataclasses import dataclass
from typing import IO, Literal, TypeAlias

from dues.errors import ValidationFailed
from dues.imports.lines import BOM, MalformedRecord, Records
from dues.imports.rows import Kind, check_columns
from dues.reports.files import Draft

Format: TypeAlias = Literal["csv", "ndjson"]
# By the media type that a file is sent as.
FORMATS: dict[str, Format] = {
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
}

_PART = 256 * 1024
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(frozen=True)
class Upload:
    """A file that can be read, of so many bytes."""

    file: IO[bytes]
    format: Format
    size: int

    def copy(self, draft: Draft) -> None:
        self.file.seek(0)
        while part := self.file.read(_PART):
            draft.write(part)


def check_file(file: IO[bytes], form: Format, kind: Kind) -> Upload:
    """Raises: ValidationFailed for a file that has no rows, is no text in UTF-8, or whose columns are not those of
    `kind`."""
    size = file.seek(0, 2)
    file.seek(0)
    first = file.read(_PART)
    if first.startswith(_UTF_16):
        raise ValidationFailed.of("#", "is UTF-16: save the file as UTF-8", "encoding")
    start = len(BOM) if first.startswith(BOM) else 0
    if form == "ndjson" and first[start:].lstrip().startswith(b"["):
        raise ValidationFailed.of("#", "is one JSON array: each row is an object on a line of its own", "format")
    record = next(iter(Records([first[start:]], form)), None)
    if record is None:
        raise ValidationFailed.of("#", "has no rows", "required")
    if form == "csv":
        if isinstance(record.content, MalformedRecord):
            raise ValidationFailed.of("#", f"the line of columns {record.content.detail}", record.content.code)
        check_columns(record.content, kind)
    return Upload(file, form, size)
