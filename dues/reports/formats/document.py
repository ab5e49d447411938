"""What a format does: turn rows, as PostgreSQL sends them, into a document."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

from dues.reports.files import Draft
from dues.reports.rows import CellType, Rows


@dataclass(frozen=True)
class Heading:
    """What a document says about itself. `count` is the number of rows that will follow; `timezone` decides which month
    a time is in; `bom` asks for a byte order mark; `beside` is what there is to show beside the rows (`Rows`)."""

    report_id: UUID
    store_id: UUID
    store_name: str
    rows: Rows
    range_from: datetime
    range_to: datetime
    created_at: datetime
    count: int
    timezone: str
    bom: bool = False
    beside: Any = None


class Document(ABC):
    """One document being written to a draft. Its memory does not grow with the rows, nor does what it keeps of them.

    `copy` gives the COPY statement whose lines `add` takes, in order, each with its line feed.
    """

    media_type: ClassVar[str]
    extension: ClassVar[str]
    # Whether it shows what there is beside the rows.
    is_drawn: ClassVar[bool] = False

    def __init__(self, draft: Draft, heading: Heading) -> None:
        self.draft = draft
        self.heading = heading

    @staticmethod
    @abstractmethod
    def copy(rows: Rows) -> str: ...

    @abstractmethod
    def add(self, lines: Sequence[bytes]) -> None: ...

    @abstractmethod
    def finish(self) -> None: ...

    def close(self) -> None:  # noqa: B027  (most hold nothing open)
        """Let go of what is held open, finished or not."""


def copy_json(query: str) -> str:
    """A COPY of a query with one column of JSON, as it is: JSON holds no control characters, so with two of them
    for quote and delimiter, CSV has nothing to quote or to double, and each line is one document."""
    return f"copy ({query}) to stdout (format csv, quote e'\\x01', delimiter e'\\x02', encoding 'UTF8')"


# Cells of a JSON array for documents that Python draws: times are seconds since 1970.
DRAWN_CELLS: dict[CellType, str] = {
    "time": "extract(epoch from {0})::float8",
    "month": "to_char({0}, 'YYYY-MM')",
}
