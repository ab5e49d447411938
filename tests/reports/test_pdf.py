"""The printed revenue: its text, its bars and its pages, read back from the PDF's own drawing commands."""

import re
import zlib
from datetime import UTC, datetime, timedelta

import pytest

from dues.reports.formats.chart import find_ticks
from tests.factory import Factory
from tests.reports.conftest import Reports

JANUARY = datetime(2026, 1, 10, tzinfo=UTC)
MARCH = datetime(2026, 3, 10, tzinfo=UTC)
YEAR = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


class PDF:
    """The drawing commands of each page."""

    def __init__(self, content: bytes) -> None:
        assert content.startswith(b"%PDF-")
        assert content.rstrip().endswith(b"%%EOF")
        streams = re.finditer(rb"\[ /FlateDecode \] /Length (\d+)\s*>>\s*stream\r?\n", content)
        opened = [zlib.decompress(content[found.end() : found.end() + int(found[1])]) for found in streams]
        # The others are tables of embedded fonts.
        self.pages = [stream for stream in opened if b" Tj" in stream]

    def texts(self, page: int) -> list[str]:
        found = re.findall(rb"\(((?:\\.|[^\\)])*)\) Tj", self.pages[page], re.DOTALL)
        return [
            re.sub(rb"\\([0-7]{3}|.)", _unescaped, text, flags=re.DOTALL).decode("cp1252", "replace") for text in found
        ]

    def boxes(self, page: int) -> list[tuple[str, float, float]]:
        """Filled boxes: color, width, height."""
        found = re.findall(rb"([\d.]+ [\d.]+ [\d.]+) rg\n(?:n )?[\d.]+ [\d.]+ ([\d.]+) ([\d.]+) re f", self.pages[page])
        return [(color.decode(), float(width), float(height)) for color, width, height in found]


def _unescaped(match: "re.Match[bytes]") -> bytes:
    return bytes([int(match[1], 8)]) if match[1].isdigit() else match[1]


def test_totals_and_a_line_for_each_month_and_package(make: Factory, reports: Reports):
    store = make.store(name="Café (North)")
    gold = make.package(store, name="Gold")
    make.payment(store, package=gold, amount=123456, created_at=JANUARY)
    make.payment(store, amount=1000, created_at=JANUARY, status="partially_refunded", refunded_amount=250)
    make.payment(store, package=gold, amount=4000, created_at=MARCH)
    texts = PDF(reports.built(store, "revenue", "pdf", YEAR)).texts(0)
    assert texts[:3] == ["Revenue", "Café (North)", "1 January 2026 to 31 December 2026 (UTC)"]
    for name, figure in [
        ("Net", "1,282.06 EUR"),
        ("Gross", "1,284.56 EUR"),
        ("Refunded", "2.50 EUR"),
        ("Payments", "3"),
    ]:
        assert texts[texts.index(name) + 1] == figure
    lines = texts[texts.index("Month and package") + 5 :]
    assert lines[:20] == [
        *("January 2026", "2", "1,244.56", "2.50", "1,242.06"),
        *("Gold", "1", "1,234.56", "0.00", "1,234.56"),
        *("Without a package", "1", "10.00", "2.50", "7.50"),
        *("March 2026", "1", "40.00", "0.00", "40.00"),
    ]


def test_bars_are_as_high_as_their_months_with_the_empty_ones_between(make: Factory, reports: Reports):
    store = make.store()
    make.payment(store, amount=40000, created_at=JANUARY, status="partially_refunded", refunded_amount=10000)
    make.payment(store, amount=20000, created_at=MARCH)
    pdf = PDF(reports.built(store, "revenue", "pdf", YEAR))
    # After the legend's two: for each month what was kept, and on it what was refunded.
    bars = pdf.boxes(0)[2:8]
    kept, refunded = [box[2] for box in bars[::2]], [box[2] for box in bars[1::2]]
    assert kept == pytest.approx([kept[0], 0, kept[0] * 2 / 3], abs=0.01)
    assert refunded == pytest.approx([kept[0] / 3, 0, 0], abs=0.01)
    assert kept[0] > 50
    assert len({box[0] for box in bars}) == 2
    texts = pdf.texts(0)
    assert [text for text in texts if re.fullmatch(r"[A-Z][a-z]{2} 26", text)] == ["Jan 26", "Feb 26", "Mar 26"]


def test_a_section_for_each_currency_the_busiest_first(make: Factory, reports: Reports):
    store = make.store()
    make.payment(store, amount=99999, created_at=JANUARY)
    for _ in range(2):
        make.payment(store, amount=1234, currency="JPY", created_at=JANUARY)
    pdf = PDF(reports.built(store, "revenue", "pdf", YEAR))
    texts = pdf.texts(0) + pdf.texts(1)
    assert texts.index("JPY") < texts.index("2,468 JPY") < texts.index("EUR") < texts.index("999.99 EUR")


def test_many_packages_fill_pages_each_with_its_headings(make: Factory, reports: Reports):
    store = make.store()
    for i in range(150):
        package = make.package(store, name=f"Package {i:03d}")
        make.payment(store, package=package, amount=100, created_at=JANUARY + timedelta(seconds=i))
    pdf = PDF(reports.built(store, "revenue", "pdf", YEAR))
    assert len(pdf.pages) == 4
    for number in range(1, 4):
        assert pdf.texts(number)[:6] == [
            "Month and package",
            "Payments",
            "Gross",
            "Refunded",
            "Net",
            "January 2026, continued",
        ]
        assert pdf.texts(number)[-1] == str(number + 1)
    names = [text for page in range(4) for text in pdf.texts(page) if re.fullmatch(r"Package \d{3}", text)]
    assert names == [f"Package {i:03d}" for i in range(150)]


def test_names_in_any_script_and_of_any_length(make: Factory, reports: Reports):
    store = make.store(name="会員クラブ")
    names = ["Золотой", "月卡", "x" * 200, "😀", "عربي", "a\n(\\"]
    packages = [make.package(store, name=name) for name in names]
    for i, package in enumerate(packages):
        make.payment(store, package=package, created_at=JANUARY + timedelta(seconds=i))
    pdf = PDF(reports.built(store, "revenue", "pdf", YEAR))
    texts = pdf.texts(0)
    assert any(re.fullmatch("x{20,60}…", text) for text in texts)
    assert "a (\\" in texts
    assert {f"Package {package.id}"[:16] for package in packages[3:5]} <= {text[:16] for text in texts}
    assert "会員クラブ".encode("utf-16-be") in re.sub(rb"\\([0-7]{3}|.)", _unescaped, pdf.pages[0], flags=re.DOTALL)


def test_no_payments_are_said_to_be_none(make: Factory, reports: Reports):
    pdf = PDF(reports.built(make.store(), "revenue", "pdf", YEAR))
    assert len(pdf.pages) == 1
    assert "There were no payments in this time." in pdf.texts(0)


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [(0, [0, 1]), (1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (7.3, [0, 2, 4, 6, 8]), (1001, [0, 250, 500, 750, 1000, 1250])],
)
def test_ticks_are_round_and_reach_the_largest(largest: float, ticks: list[float]):
    assert find_ticks(largest) == pytest.approx(ticks)
