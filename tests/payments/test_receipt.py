"""Receipts: what stands on them, in which letters, and that they are the same each time."""

import re
import zlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reportlab.pdfbase import pdfmetrics

from dues.payments.receipt import Line, Receipt, receipt_pdf
from dues.pdf.text import printable, width, wrap


def receipt(**changes: Any) -> Receipt:
    values: dict[str, Any] = {
        "number": "0191A7C2-88",
        "store": "Kestrel Climbing Club",
        "store_slug": "kestrel",
        "payer": "Ada Müller",
        "payer_email": "ada@example.org",
        "paid_at": datetime(2026, 11, 20, 14, 39, tzinfo=UTC),
        "currency": "EUR",
        "lines": (Line("Annual membership", 12_000),),
    }
    return Receipt(**values | changes)


def texts(pdf: bytes) -> list[list[str]]:
    """The strings set in western letters, page by page."""
    streams = re.findall(rb"/FlateDecode[^>]*>>\s*stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    pages = [zlib.decompressobj().decompress(stream) for stream in streams]
    return [[_unescape(text) for text in re.findall(rb"\((.*?)(?<!\\)\) Tj", page)] for page in pages if b" Tj" in page]


def _unescape(text: bytes) -> str:
    octal = re.sub(rb"\\(\d{3})", lambda code: bytes([int(code[1], 8)]), text)
    return re.sub(rb"\\(.)", rb"\1", octal).decode("cp1252")


def test_a_receipt_says_who_paid_what_to_whom_and_when():
    [page] = texts(receipt_pdf(receipt()))
    for text in (
        "Kestrel Climbing Club",
        "0191A7C2-88",
        "20 November 2026, 14:39 UTC",
        "Ada Müller",
        "ada@example.org",
    ):
        assert text in page
    assert page.index("Annual membership") > page.index("120.00 EUR paid on 20 November 2026")
    assert "Paid" in page
    assert page.count("120.00 EUR") == 2
    assert "Refunded" not in page


def test_amounts_are_written_as_the_currency_has_it():
    [page] = texts(receipt_pdf(receipt(currency="JPY", lines=(Line("A", 1_200), Line("B", 34)))))
    assert [text for text in page if text.endswith("JPY")] == ["1,200 JPY", "34 JPY", "1,234 JPY"]


def test_what_was_given_back_is_taken_off():
    [page] = texts(receipt_pdf(receipt(status="partially_refunded", refunded=2_050)))
    assert "Partially refunded" in page
    assert page[page.index("Refunded") + 1] == "-20.50 EUR"
    assert page[page.index("Total after refunds") + 1] == "99.50 EUR"


def test_times_are_utc():
    evening = datetime(2026, 11, 20, 20, 0, tzinfo=timezone(timedelta(hours=-8)))
    [page] = texts(receipt_pdf(receipt(paid_at=evening)))
    assert "21 November 2026, 04:00 UTC" in page


def test_the_same_receipt_is_the_same_bytes():
    again = {"store": "Żubr", "payer": "山田 太郎"}
    assert receipt_pdf(receipt(**again)) == receipt_pdf(receipt(**again))


def test_western_letters_keep_it_small():
    assert len(receipt_pdf(receipt())) < 4_000


def test_other_letters_bring_their_font():
    assert b"DejaVuSans-Bold" in receipt_pdf(receipt(store="Κλαμπ Żubr"))
    for name, font in (
        ("東京クラブ", b"HeiseiKakuGo-W5"),
        ("서울 클럽", b"HYGothic-Medium"),
        ("上海俱乐部", b"STSong-Light"),
    ):
        assert font in receipt_pdf(receipt(store=name))


def test_what_cannot_be_printed_is_replaced_by_what_can():
    [page] = texts(receipt_pdf(receipt(store="نادي التسلق", payer="דוד כהן", lines=(Line("سنوي", 12_000),))))
    assert page.index("kestrel") < page.index("ada@example.org") < page.index("Payment")


def test_many_lines_go_on_to_further_pages():
    lines = tuple(Line(f"Lesson {number} " + "with a long description " * 8, 100) for number in range(40))
    pages = texts(receipt_pdf(receipt(lines=lines)))
    assert len(pages) > 1
    assert [page[-1] for page in pages] == [f"Page {number}" for number in range(1, len(pages) + 1)]
    assert sum(text.startswith("Lesson") for page in pages for text in page) == 40


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("Kestrel\n Club", "Kestrel Club"),
        ("Cafe\u0301 🎉", "Café"),
        ("Łódź „Żubr”", "Łódź „Żubr”"),
        ("東京クラブ", "東京クラブ"),
        *((text, None) for text in ("", "🎉", "דוד", "نادي", "क्लब", "\ud800", "David דוד")),
    ],
)
def test_what_can_be_printed(text: str, printed: str | None):
    assert printable(text) == printed


@given(st.text(max_size=60), st.booleans())
def test_any_text_makes_a_receipt(text: str, in_store: bool):
    pdf = receipt_pdf(receipt(**({"store": text} if in_store else {"payer": text})))
    assert pdf.startswith(b"%PDF")


@given(st.text(st.sampled_from("aWż東 "), min_size=1, max_size=60).map(printable).filter(bool))
def test_lines_fit_their_column_and_lose_nothing(text: str):
    lines = wrap(text, 10, 60)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(width(line, 10) <= 60 for line in lines)


@pytest.mark.parametrize("letters", ["漢", "漢Ω", "한", "カ", "Ω", "W", "漢 ", "м", "e\u0301"])
def test_a_long_text_costs_as_its_length(letters: str):
    """Counted in characters that are measured, not in seconds."""
    measured = []
    original = pdfmetrics.stringWidth

    def counted(text: str, font: str, size: float) -> float:
        measured.append(len(text))
        return original(text, font, size)

    text = (letters * 500)[:500].strip()
    with patch.object(pdfmetrics, "stringWidth", counted):
        receipt_pdf(receipt(store=text[:200], payer=text[:200], lines=(Line(text, 100),)))
    assert sum(measured) < 10 * (500 + 200 + 200) + 1000
