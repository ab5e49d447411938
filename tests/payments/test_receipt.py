"""Receipts and the documents of refunds: what stands on them."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask

from dues.payments.receipt import Payer, Receipt, Refunded, Seller, receipt_pdf
from tests.pdf_reader import PDF

PAID_AT = datetime(2026, 11, 20, 14, 39, tzinfo=UTC)


def receipt(**changes: Any) -> Receipt:
    values: dict[str, Any] = {
        "number": "R-000123",
        "seller": Seller(name="Kestrel Climbing Club"),
        "payer": Payer(name="Ada Müller", email="ada@example.org"),
        "paid_at": PAID_AT,
        "amount": 12_000,
        "currency": "EUR",
        "description": "Annual membership",
        "method": "Visa •••• 4242",
        "reference": "sandbox_charge_1",
    }
    return Receipt(**values | changes)


REFUND = Refunded(
    amount=3_000,
    refunded_at=datetime(2026, 12, 1, 9, 0, tzinfo=UTC),
    receipt_number="R-000123",
    reason="Moved away",
    reference="sandbox_refund_1",
)


@pytest.fixture(autouse=True)
def in_app(app: Flask) -> Iterator[None]:
    with app.app_context():
        yield


def lines_of(**changes: Any) -> list[str]:
    return PDF(receipt_pdf(receipt(**changes))).lines()


def test_a_receipt_says_who_paid_what_to_whom_and_how():
    seller = Seller(
        name="Kestrel Climbing Club",
        lines=["Kestrel e.V.", "Felsgasse 12", "10115 Berlin", "Germany", "Tax ID DE123"],
        contact_email="hello@kestrel.example",
        website="https://kestrel.example",
        note="Exempt from VAT.\nThank you!",
    )
    payer = Payer(name="Ada Müller", email="ada@example.org", lines=["Musterstraße 1", "80331 München", "Germany"])
    lines = lines_of(seller=seller, payer=payer)
    for line in (
        *seller.lines,
        "hello@kestrel.example · https://kestrel.example",
        "120.00 EUR paid on 20 November 2026",
        "Receipt number R-000123",
        "Date 20 November 2026, 14:39 UTC",
        "Paid by Ada Müller",
        "ada@example.org",
        *payer.lines,
        "Payment method Visa •••• 4242",
        "Reference sandbox_charge_1",
        "Annual membership 120.00 EUR",
        "Total paid 120.00 EUR",
        "Exempt from VAT.",
        "Thank you!",
        "Receipt R-000123 Page 1 of 1",
    ):
        assert line in lines, lines
    assert lines[0].startswith("Kestrel Climbing Club")
    assert not any("Refund" in line or "Test" in line for line in lines)


def test_the_document_of_a_refund_says_what_was_given_back_when_and_why():
    lines = lines_of(number="RF-000007", refund=REFUND)
    for line in (
        "30.00 EUR refunded on 1 December 2026",
        "Refund number RF-000007",
        "Date 1 December 2026, 09:00 UTC",
        "Reason Moved away",
        "Reference sandbox_refund_1",
        "For receipt R-000123 of 20 November 2026",
        "Annual membership 120.00 EUR",
        "Paid 120.00 EUR",
        "This refund -30.00 EUR",
        "Paid after refunds 90.00 EUR",
    ):
        assert line in lines, lines
    assert not any("Refunded before" in line for line in lines)


def test_earlier_refunds_are_counted_and_nothing_more():
    later = Refunded(amount=500, refunded_at=REFUND.refunded_at, receipt_number="R-000123", before=3_000)
    lines = lines_of(number="RF-000008", refund=later)
    assert "Refunded before -30.00 EUR" in lines
    assert "Paid after refunds 85.00 EUR" in lines
    assert not any(line.startswith("Reason") for line in lines)


@pytest.mark.parametrize(
    ("amount", "currency", "printed"),
    [
        (1, "EUR", "0.01 EUR"),
        (123_456, "EUR", "1,234.56 EUR"),
        (1_234, "JPY", "1,234 JPY"),
        (1_234_567, "KWD", "1,234.567 KWD"),
        (999_999_999_999, "KRW", "999,999,999,999 KRW"),
    ],
)
def test_amounts_have_the_digits_of_their_currency(amount: int, currency: str, printed: str):
    lines = lines_of(amount=amount, currency=currency)
    assert f"Total paid {printed}" in lines
    assert f"Annual membership {printed}" in lines


@pytest.mark.parametrize(
    ("timezone", "printed"),
    [
        ("UTC", "20 November 2026, 14:39 UTC"),
        ("Asia/Tokyo", "20 November 2026, 23:39 UTC+09:00"),
        ("Pacific/Auckland", "21 November 2026, 03:39 UTC+13:00"),
        ("America/St_Johns", "20 November 2026, 11:09 UTC-03:30"),
    ],
)
def test_dates_are_the_stores_and_say_their_zone(timezone: str, printed: str):
    assert f"Date {printed}" in lines_of(timezone=timezone)


def test_a_test_store_says_that_no_money_was_moved():
    assert "Test: no money was moved" in lines_of(test=True)


def test_what_is_not_known_is_left_out():
    lines = lines_of(method="", reference="", description="", payer=Payer(name="", email="ada@example.org"))
    assert "Paid by ada@example.org" in lines
    assert "Payment 120.00 EUR" in lines
    assert not any(line.startswith(("Payment method", "Reference")) for line in lines)


def test_the_same_receipt_is_the_same_bytes():
    assert receipt_pdf(receipt()) == receipt_pdf(receipt())


def test_a_note_goes_on_to_further_pages():
    note = "\n".join(f"Clause {number} " + "and so on " * 8 for number in range(80))
    pdf = PDF(receipt_pdf(receipt(seller=Seller(name="Kestrel", note=note))))
    assert pdf.pages > 1
    shown = " ".join(pdf.text(page) for page in range(pdf.pages))
    assert all(f"Clause {number} " in shown for number in range(80))
    assert all(f"Page {page + 1} of {pdf.pages}" in pdf.text(page) for page in range(pdf.pages))


def test_a_file_is_small():
    assert len(receipt_pdf(receipt())) < 30_000


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        (
            "de",
            ["120,00 EUR bezahlt am 20. November 2026", "Quittung Nr. R-000123", "Bezahlt von Ada Müller",
             "Beschreibung Betrag", "Insgesamt bezahlt 120,00 EUR", "Quittung R-000123 Seite 1 von 1"],
        ),
        (
            "es",
            ["120,00 EUR pagados el 20 de noviembre de 2026", "N.º de recibo R-000123", "Total pagado 120,00 EUR",
             "Recibo R-000123 Página 1 de 1"],
        ),
        (
            "fr",
            ["120,00 EUR payés le 20 novembre 2026", "N° de reçu R-000123", "Total payé 120,00 EUR",
             "Reçu R-000123 Page 1 sur 1"],
        ),
    ],
)  # fmt: skip
def test_it_speaks_the_stores_language(language: str, expected: list[str]):
    lines = lines_of(language=language)
    for line in expected:
        assert line in lines, lines


def test_a_refund_speaks_it_too():
    lines = lines_of(language="de", number="RF-000007", refund=REFUND)
    for line in (
        "30,00 EUR erstattet am 1. Dezember 2026",
        "Zur Quittung R-000123 vom 20. November 2026",
        "Diese Erstattung -30,00 EUR",
        "Bezahlt nach Erstattungen 90,00 EUR",
    ):
        assert line in lines, lines


@pytest.mark.parametrize(("paper", "size"), [("a4", (595, 842)), ("us-letter", (612, 792))])
def test_it_is_on_the_paper_that_the_store_prints_on(paper: str, size: tuple[int, int]):
    assert PDF(receipt_pdf(receipt(paper=paper))).size() == size


@pytest.mark.parametrize(
    ("amount", "rate", "net", "tax"),
    [
        (11_900, 190_000, "Net 100.00 EUR", "Tax 19 % 19.00 EUR"),
        (999, 190_000, "Net 8.39 EUR", "Tax 19 % 1.60 EUR"),
        (1, 81_000, "Net 0.01 EUR", "Tax 8.1 % 0.00 EUR"),
    ],
)
def test_it_says_what_tax_is_included(amount: int, rate: int, net: str, tax: str):
    lines = lines_of(amount=amount, tax_rate=rate)
    assert net in lines
    assert tax in lines
    assert not any(line.startswith(("Net", "Tax")) for line in lines_of(amount=amount))


def test_the_taxes_of_refunds_add_up_to_that_of_the_payment():
    """Of 9.99 EUR with 19 %, 1.60 are tax, whatever it is refunded in."""
    net = tax = before = 0
    for amount in (333, 1, 332, 333):
        refund = Refunded(amount=amount, refunded_at=REFUND.refunded_at, receipt_number="R-1", before=before)
        lines = lines_of(amount=999, tax_rate=190_000, refund=refund)
        found = {
            line.split()[0]: int(line.split()[-2].replace(".", "")) for line in lines if line[:3] in ("Net", "Tax")
        }
        assert found["Net"] + found["Tax"] == -amount
        net, tax, before = net + found["Net"], tax + found["Tax"], before + amount
    assert (net, tax) == (-839, -160)
