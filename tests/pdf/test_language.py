"""What documents say in each language, and how they write dates, amounts and countries."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import get_args

import pytest

from dues.pdf import language
from dues.pdf.language import Language, Paper, paper_of, words_of

pytestmark = pytest.mark.unit

LANGUAGES: tuple[Language, ...] = get_args(Language)
ROOT = Path(language.__file__).resolve().parent.parent


@pytest.mark.parametrize("english", language._WORDS)
def test_each_words_name_the_same_parts_in_every_language(english: str):
    parts = sorted(re.findall(r"{\w+}", english))
    for words in language._WORDS[english]:
        assert words.strip() == words != ""
        assert sorted(re.findall(r"{\w+}", words)) == parts


def test_whatever_documents_say_is_among_the_words_and_nothing_else_is():
    source = "".join(path.read_text() for path in ROOT.rglob("*.py") if path.name != "language.py")
    asked = set(re.findall(r"\b_?words(?:_of\(language\))?\(\s*\"([^\"]+)\"", source))
    titles = {"Receipt", "Refund", "Invoice", "Credit note", "Page {page} of {pages}", "Credited to", "Bill to"}
    assert asked | titles == set(language._WORDS)


@pytest.mark.parametrize(
    ("spoken", "amount", "currency", "printed"),
    [
        ("en", 123_456, "EUR", "1,234.56 EUR"),
        ("en", -3_000, "EUR", "-30.00 EUR"),
        ("en", 999_999_999_999, "KRW", "999,999,999,999 KRW"),
        ("de", 123_456, "EUR", "1.234,56 EUR"),
        ("de", 1_234_567, "KWD", "1.234,567 KWD"),
        ("de", -1, "EUR", "-0,01 EUR"),
        ("es", 123_456_789, "EUR", "1.234.567,89 EUR"),
        ("fr", 123_456, "EUR", "1\N{NARROW NO-BREAK SPACE}234,56 EUR"),
        ("fr", 1_234, "JPY", "1\N{NARROW NO-BREAK SPACE}234 JPY"),
    ],
)
def test_amounts(spoken: Language, amount: int, currency: str, printed: str):
    assert words_of(spoken).money(amount, currency) == printed


@pytest.mark.parametrize(("rate", "printed"), [(190_000, "19 %"), (81_000, "8,1 %"), (1, "0,0001 %"), (0, "0 %")])
def test_rates(rate: int, printed: str):
    assert words_of("de").rate(rate) == printed
    assert words_of("en").rate(rate) == printed.replace(",", ".")


@pytest.mark.parametrize(
    ("spoken", "timezone", "printed"),
    [
        ("en", "UTC", "20 November 2026, 14:39 UTC"),
        ("de", "Europe/Berlin", "20. November 2026, 15:39 UTC+01:00"),
        ("es", "Pacific/Auckland", "21 de noviembre de 2026, 03:39 UTC+13:00"),
        ("fr", "America/St_Johns", "20 novembre 2026, 11:09 UTC-03:30"),
    ],
)
def test_times(spoken: Language, timezone: str, printed: str):
    assert words_of(spoken).moment(datetime(2026, 11, 20, 14, 39, tzinfo=UTC), timezone) == printed


@pytest.mark.parametrize(
    ("spoken", "code", "name"),
    [("en", "DE", "Germany"), ("de", "DE", "Deutschland"), ("fr", "US", "États-Unis"), ("es", "XK", "Kosovo")],
)
def test_countries(spoken: Language, code: str, name: str):
    assert words_of(spoken).country(code) == name
    assert words_of(spoken).country(None) is None


@pytest.mark.parametrize(
    ("chosen", "country", "paper"),
    [
        (None, None, "a4"),
        (None, "DE", "a4"),
        (None, "US", "us-letter"),
        (None, "MX", "us-letter"),
        ("a4", "US", "a4"),
        ("us-letter", "DE", "us-letter"),
    ],
)
def test_paper_is_as_chosen_or_as_usual_in_the_country(chosen: Paper | None, country: str | None, paper: Paper):
    assert paper_of(chosen, country) == paper
