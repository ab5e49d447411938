"""Records are found in whatever pieces a file comes, and what is wrong with one costs no other."""

import itertools
import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.imports.lines import LONGEST_RECORD, MalformedRecord, Records

pytestmark = pytest.mark.unit

LONG = b"x" * (LONGEST_RECORD + 1)


def read(chunks: Iterable[bytes], form: str = "csv") -> list[tuple[int, object]]:
    """The records by their lines; of those that are none the code."""
    return [
        (record.line, record.content.code if isinstance(record.content, MalformedRecord) else record.content)
        for record in Records(chunks, form)
    ]


FILES: dict[str, tuple[bytes, list[object]]] = {
    "plain": (b"a,b\nc,d\n", [(1, ["a", "b"]), (2, ["c", "d"])]),
    "no line break at the end": (b"a,b\nc,d", [(1, ["a", "b"]), (2, ["c", "d"])]),
    "CRLF": (b"a,b\r\nc,d\r\n", [(1, ["a", "b"]), (2, ["c", "d"])]),
    "blank lines": (b"\na\n\r\n\nb\n\n", [(2, ["a"]), (5, ["b"])]),
    "a quoted line break": (b'a,"b\r\nc"\nd,e\n', [(1, ["a", "b\r\nc"]), (3, ["d", "e"])]),
    "doubled quotes": (b'"a ""b""",c\n', [(1, ['a "b"', "c"])]),
    "a quote within a cell": (b'5" pipe,a\nb,c\n', [(1, ['5" pipe', "a"]), (2, ["b", "c"])]),
    "a quote that is not closed": (b'a,"b\nc,d\ne,f\n', [(1, "quotes"), (2, ["c", "d"]), (3, ["e", "f"])]),
    "a quote that is closed by another row's": (
        b'a,"b\nc,"d"\ne,f\n',
        [(1, "quotes"), (2, ["c", "d"]), (3, ["e", "f"])],
    ),
    "text after a quote": (b'"a"b,c\nd,e\n', [(1, "malformed_csv"), (2, ["d", "e"])]),
    "a line that is too long": (b"a\n" + LONG + b"\nb\n", [(1, ["a"]), (2, "length"), (3, ["b"])]),
    "a file of one line that is too long": (LONG * 3, [(1, "length")]),
    "a cell that is too long": (b'a,"' + b"x\n" * LONGEST_RECORD, [(1, "quotes")]),
    "Latin-1": ("a,é\nb,ü\n".encode("latin-1") + b"c,d\n", [(1, "encoding"), (2, "encoding"), (3, ["c", "d"])]),
    "lines of old Macs": (b"a,b\rc,d\r", [(1, "malformed_csv")]),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("size", [1, pytest.param(7, marks=pytest.mark.wide), 1_000_000])
def test_records_of_csv(name: str, size: int) -> None:
    data, expected = FILES[name]
    if size == 1 and len(data) > LONGEST_RECORD:
        size = 1009
    found = read(data[i : i + size] for i in range(0, len(data), size))
    assert found[: len(expected)] == expected
    if name != "a cell that is too long":
        assert len(found) == len(expected)


def test_records_of_ndjson_are_lines() -> None:
    data = b'{"a":1}\r\n\n  \n{"a":"\xc3\xa9"}\n\xff\n' + LONG + b"\n{}"
    assert read([data], "ndjson") == [
        (1, '{"a":1}'),
        (4, '{"a":"é"}'),
        (5, "encoding"),
        (6, "length"),
        (7, "{}"),
    ]


@given(st.text(alphabet='a,"\n\r é', max_size=60), st.integers(1, 9))
def test_a_file_is_read_on_from_wherever_a_record_ends(text: str, size: int) -> None:
    """And each byte belongs to one record, or to blank lines before it."""
    data = text.encode()
    records = list(Records([data[i : i + size] for i in range(0, len(data), size)], "csv"))
    for number, record in enumerate(records):
        line = record.line + record.lines - 1
        rest = list(Records([data[record.end :]], "csv", record.end, line))
        assert [(one.line, one.end, str(one.content)) for one in rest] == [
            (one.line, one.end, str(one.content)) for one in records[number + 1 :]
        ]


HUGE = 2**30
BEGINNINGS = {
    "a line": (b"", "csv", "length"),
    "a cell that is not closed": (b'a,"b', "csv", "length"),
    "an object": (b'{"external_id":"', "ndjson", "length"),
    "one after good ones": (b"a,b\n" * 1000, "csv", "length"),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_a_line_of_a_gigabyte_is_passed_over_in_little_memory(name: str) -> None:
    beginning, form, code = BEGINNINGS[name]
    chunk = b"x" * 2**20
    tracemalloc.start()
    try:
        *_, last = read(itertools.chain([beginning], itertools.repeat(chunk, HUGE // len(chunk)), [b"\nc,d"]), form)[
            :-1
        ]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert last[1] == code
    assert peak < 8 * 2**20
