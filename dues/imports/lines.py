"""A file's records, read in order from any position at which one begins, in memory that does not grow with the file.

A record of NDJSON is a line; one of CSV (RFC 4180) may span lines, where a quoted cell does. A line that is too long is
passed over without being held. A quote that is never closed costs the row in which it was opened, and no other: what
was looked through for its end is read again.
"""

import csv
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# The longest that one record may be, in bytes.
LONGEST_RECORD = 64 * 1024

BOM = b"\xef\xbb\xbf"


class MalformedRecord(ValueError):
    """A record that cannot be read; its text says why, for those who wrote it."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


class Record(NamedTuple):
    """A record: the number of its first line, counted from 1; where it ends in the file, and on how many lines; and its
    content, or what is wrong with it."""

    line: int
    end: int
    lines: int
    content: "list[str] | str | MalformedRecord"


class _Line(NamedTuple):
    """A line with its end, None for one that is too long; and its size in bytes."""

    data: bytes | None
    size: int


def _lines(chunks: Iterable[bytes]) -> Iterator[_Line]:
    held, passed_over = bytearray(), 0
    for chunk in chunks:
        held += chunk
        start = 0
        while (end := held.find(b"\n", start) + 1) > 0:
            size = end - start
            if passed_over or size > LONGEST_RECORD:
                yield _Line(None, passed_over + size)
                passed_over = 0
            else:
                yield _Line(bytes(held[start:end]), size)
            start = end
        del held[:start]
        if passed_over or len(held) > LONGEST_RECORD:
            passed_over += len(held)
            held.clear()
    if held or passed_over:
        yield _Line(None if passed_over else bytes(held), passed_over + len(held))


class Records:
    """The records of a file in a format, `csv` or `ndjson`; `chunks` are its bytes from `position` on, which `line`
    lines come before. Blank lines are no records."""

    def __init__(self, chunks: Iterable[bytes], form: str, position: int = 0, line: int = 0) -> None:
        self._lines = _lines(chunks)
        self._ahead: deque[_Line] = deque()
        self._read = self._read_csv if form == "csv" else self._read_json
        self._position, self._line = position, line

    def __iter__(self) -> Iterator[Record]:
        while (first := self._next()) is not None:
            number, end = self._line + 1, self._position
            content: list[str] | str | MalformedRecord | None
            taken = [first]
            try:
                content = self._read(first, taken)
            except MalformedRecord as malformed:
                content = malformed
            self._line += len(taken)
            self._position = end + sum(line.size for line in taken)
            if content is not None:
                yield Record(number, self._position, len(taken), content)

    def _next(self) -> _Line | None:
        return self._ahead.popleft() if self._ahead else next(self._lines, None)

    def _read_json(self, first: _Line, taken: list[_Line]) -> str | None:
        return _text(first).strip(" \t\r\n") or None

    def _read_csv(self, first: _Line, taken: list[_Line]) -> list[str] | None:
        text = _text(first)
        if not text.strip("\r\n"):
            return None
        try:
            return _cells(text)
        except MalformedRecord:
            if text.count('"') % 2 == 0:
                raise
        return self._read_several(first, taken)

    def _read_several(self, first: _Line, taken: list[_Line]) -> list[str]:
        """A record whose first line ends within quotes. Raises: MalformedRecord where they are not closed."""
        texts, size, following = [_text(first)], first.size, []
        while (line := self._next()) is not None:
            following.append(line)
            size += line.size
            if size > LONGEST_RECORD:
                break
            try:
                texts.append(_text(line))
                if texts[-1].count('"') % 2 == 0:
                    continue
                cells = _cells("".join(texts))
            except MalformedRecord:
                break
            taken += following
            return cells
        self._ahead.extendleft(reversed(following))
        raise MalformedRecord("quotes", "a cell's quote is not closed, or quotes within a cell are not doubled")


def _text(line: _Line) -> str:
    """Raises: MalformedRecord."""
    if line.data is None:
        raise MalformedRecord("length", f"a row may have at most {LONGEST_RECORD} bytes")
    try:
        return line.data.decode()
    except UnicodeDecodeError:
        raise MalformedRecord("encoding", "is not UTF-8") from None


def _cells(text: str) -> list[str]:
    """The cells of one record. Raises: MalformedRecord."""
    ended = text.removesuffix("\n").removesuffix("\r")
    try:
        return next(csv.reader([ended], strict=True))
    except csv.Error as error:
        detail = "holds a line break outside of quotes" if "new-line" in str(error) else f"is not CSV: {error}"
        raise MalformedRecord("malformed_csv", detail) from None
