"""The printed revenue: its text, its bars and its pages, as they are read back from the PDF."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from dues.ids import new_id
from dues.reports.formats.chart import find_ticks
from tests.factory import Factory
from tests.pdf_reader import PDF
from tests.reports.conftest import Reports

JANUARY = datetime(2026, 1, 10, tzinfo=UTC)
MARCH = datetime(2026, 3, 10, tzinfo=UTC)
YEAR = (datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))


def all_lines(pdf: PDF) -> list[str]:
    return [line for page in range(pdf.pages) for line in pdf.lines(page)]


def test_totals_and_a_line_for_each_month_and_package(make: Factory, reports: Reports):
    store = make.store(name="Café (North)")
    gold = make.package(store, name="Gold")
    make.payment(store, package=gold, amount=123456, created_at=JANUARY)
    given_back = make.payment(store, amount=1000, created_at=JANUARY)
    make.refund(given_back, amount=250, settled_at=JANUARY)
    make.payment(store, package=gold, amount=4000, created_at=MARCH)
    pdf = PDF(reports.built(store, "revenue", "pdf", YEAR))
    lines = pdf.lines()
    assert lines[:3] == ["Revenue", "Café (North)", "1 January 2026 to 31 December 2026 (UTC)"]
    assert "Net Gross Refunded Payments" in lines
    assert "1,282.06 EUR 1,284.56 EUR 2.50 EUR 3" in lines
    packages = lines.index("Package Payments Gross Refunded Net")
    assert lines[packages + 1 : packages + 3] == [
        "Gold 2 1,274.56 0.00 1,274.56",
        "Without a package 1 10.00 2.50 7.50",
    ]
    months = lines.index("Month and package Payments Gross Refunded Net")
    assert lines[months + 1 : months + 6] == [
        "January 2026 2 1,244.56 2.50 1,242.06",
        "Gold 1 1,234.56 0.00 1,234.56",
        "Without a package 1 10.00 2.50 7.50",
        "March 2026 1 40.00 0.00 40.00",
        "Gold 1 40.00 0.00 40.00",
    ]
    assert all(pdf.fonts().values())
    assert pdf.metadata()["Title"] == "Revenue of Café (North)"


def test_bars_are_as_high_as_their_months_with_the_empty_ones_between(make: Factory, reports: Reports):
    store = make.store()
    make.refund(make.payment(store, amount=40000, created_at=JANUARY), amount=10000, settled_at=JANUARY)
    make.payment(store, amount=20000, created_at=MARCH)
    pdf = PDF(reports.built(store, "revenue", "pdf", YEAR))
    # Of what is drawn, wide and high boxes: for each month what was kept, and above it what was refunded.
    bars = [(left, top - bottom) for left, bottom, right, top in pdf.boxes() if 30 < right - left < 200]
    kept_and_refunded = sorted(height for _, height in bars if 20 < height < 200)
    refunded, march, january = kept_and_refunded
    assert january > 50
    assert march == pytest.approx(january * 2 / 3, abs=0.5)
    assert refunded == pytest.approx(january / 3, abs=0.5)
    assert "Jan 26 Feb 26 Mar 26" in pdf.text()


def test_a_section_for_each_currency_the_busiest_first(make: Factory, reports: Reports):
    store = make.store()
    make.payment(store, amount=99999, created_at=JANUARY)
    for _ in range(2):
        make.payment(store, amount=1234, currency="JPY", created_at=JANUARY)
    lines = all_lines(PDF(reports.built(store, "revenue", "pdf", YEAR)))
    assert lines.index("JPY") < lines.index("2,468 JPY 2,468 JPY 0 JPY 2") < lines.index("EUR")
    assert lines.index("EUR") < lines.index("999.99 EUR 999.99 EUR 0.00 EUR 1")


def test_many_packages_fill_pages_each_with_its_headings(make: Factory, reports: Reports):
    store = make.store()
    for i in range(150):
        package = make.package(store, name=f"Package {i:03d}")
        make.payment(store, package=package, amount=100, created_at=JANUARY + timedelta(seconds=i))
    pdf = PDF(reports.built(store, "revenue", "pdf", YEAR))
    lines = all_lines(pdf)
    shown = [line.split()[1] for line in lines if re.match(r"Package \d{3} ", line)]
    # Once by package, once by month.
    assert sorted(shown) == sorted([f"{i:03d}" for i in range(150)] * 2)
    last = pdf.lines(pdf.pages - 1)
    assert last[:2] == ["Month and package Payments Gross Refunded Net", "January 2026 150 150.00 0.00 150.00"]
    assert (
        last[-1] == f"{store.name}: revenue, 1 January 2026 to 31 December 2026 (UTC) Page {pdf.pages} of {pdf.pages}"
    )


def test_names_in_any_script_and_of_any_length(make: Factory, reports: Reports):
    store = make.store(name="会員クラブ")
    names = [
        "Золотой",
        "月卡",
        "x" * 200,
        "😀",
        "عربي",
        "a\n(\\ #box[$x$]",
        "Family membership incl. sauna, yoga and more",
    ]
    for i, name in enumerate(names):
        make.payment(store, package=make.package(store, name=name), created_at=JANUARY + timedelta(seconds=i))
    pdf = PDF(reports.built(store, "revenue", "pdf", YEAR))
    text = " ".join(all_lines(pdf))
    for name in ("会員クラブ", "Золотой", "月卡", "😀", "a (\\ #box[$x$]", names[-1]):
        assert name in text
    assert text.count("x") >= 400
    assert pdf.widest() < 0.94


def test_no_payments_are_said_to_be_none(make: Factory, reports: Reports):
    pdf = PDF(reports.built(make.store(), "revenue", "pdf", YEAR))
    assert pdf.pages == 1
    assert "There were no payments in this time." in pdf.lines()


def test_what_is_too_much_to_be_read_is_summed_up_and_said_so(
    make: Factory, reports: Reports, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dues.reports.formats.pdf._MOST_LINES", 1)
    store = make.store()
    for month in (JANUARY, MARCH):
        make.payment(store, package=make.package(store, name=f"Only {month:%B}"), created_at=month)
    lines = all_lines(PDF(reports.built(store, "revenue", "pdf", YEAR)))
    assert any("the same report as XLSX or CSV has them all" in line for line in lines)
    months = lines.index("Month and package Payments Gross Refunded Net")
    assert [line.split()[0] for line in lines[months + 1 : months + 3]] == ["January", "March"]
    assert not any("Only" in line for line in lines[months:])


@pytest.mark.parametrize(
    ("largest", "ticks"),
    [(0, [0, 1]), (1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (7.3, [0, 2, 4, 6, 8]), (1001, [0, 250, 500, 750, 1000, 1250])],
)
def test_ticks_are_round_and_reach_the_largest(largest: float, ticks: list[float]):
    assert find_ticks(largest) == pytest.approx(ticks)


def test_memberships_with_their_mrr_and_churn_by_month(make: Factory, reports: Reports):
    store = make.store()
    changes = (
        # Two come in January, one of whom leaves in March; one comes in March by the year.
        (0, "2026-01-10", None, "active", 0, 2000),
        (1, "2026-01-20", None, "active", 0, 3000),
        (1, "2026-03-05", "active", "canceled", 3000, 0),
        (2, "2026-03-06", None, "active", 0, 1000),
    )
    people = [make.subscription(store) for _ in range(3)]
    for who, day, before, after, mrr_before, mrr in changes:
        make.insert(
            "subscription_changes",
            {
                "store_id": store.id,
                "subscription_id": people[who].id,
                "id": new_id(),
                "kind": "activated" if mrr else "ended",
                "from_status": before,
                "to_status": after,
                "details": {},
                "created_at": datetime.fromisoformat(f"{day}T12:00:00+00:00"),
                "currency": "EUR",
                "mrr_before": mrr_before,
                "mrr": mrr,
                "committed_before": mrr_before,
                "committed": mrr,
            },
        )
    until_april = (YEAR[0], datetime(2026, 4, 1, tzinfo=UTC))
    lines = all_lines(PDF(reports.built(store, "revenue", "pdf", until_april)))
    assert "There were no payments in this time." not in lines
    assert "MRR Members New Churn a month" in lines
    # 30.00 of the 50.00 + 50.00 that two months began with.
    assert "30.00 EUR 2 3 30.0 %" in lines
    table = lines.index("Month Members New Left MRR Churn")
    assert lines[table + 1 : table + 4] == [
        "January 2026 2 2 0 50.00",
        "February 2026 2 0 0 50.00 0.0 %",
        "March 2026 2 1 1 30.00 60.0 %",
    ]
    # Nobody pays by the month in another store.
    assert "Memberships" not in all_lines(PDF(reports.built(make.store(), "revenue", "pdf", until_april)))
