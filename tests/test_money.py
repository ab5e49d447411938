"""Currencies and their digits, as ISO 4217 has them, in every place that prints money."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.accounts.addresses import NewAddress
from dues.errors import ValidationFailed
from dues.money import MINOR_DIGITS, format_money, minor_digits
from dues.stores.service import NewStore
from dues.validation import validate

pytestmark = pytest.mark.unit

DIGITS = {
    **dict.fromkeys("EUR USD GBP ALL AFN COP HUF IDR IRR LBP MGA MRU PKR RSD SLE SYP TWD VES XCG YER ZWG".split(), 2),
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
    **dict.fromkeys("CLF UYW".split(), 4),
}
# Invented, for tests, no currency, metals, units of account, and those that are no more.
NO_MONEY = "ZZZ ABC BTC XXX XTS XAU XAG XDR XUA XSU DEM FRF HRK BGN SLL ZWL VEF BYR STD ANG CUC".split()


def is_taken(currency: str) -> bool:
    try:
        validate({"name": "Shop", "currency": currency}, NewStore)
    except ValidationFailed:
        return False
    return True


def test_currencies_have_the_digits_of_iso_4217() -> None:
    assert {currency: MINOR_DIGITS[currency] for currency in DIGITS} == DIGITS
    odd = {currency: digits for currency, digits in MINOR_DIGITS.items() if digits != 2}
    assert odd == {currency: digits for currency, digits in DIGITS.items() if digits != 2}
    assert 150 < len(MINOR_DIGITS) < 180


@pytest.mark.parametrize("currency", NO_MONEY)
def test_what_nobody_pays_in_is_no_currency(currency: str) -> None:
    assert not is_taken(currency)


def test_every_currency_in_use_is_taken() -> None:
    assert all(is_taken(currency) for currency in MINOR_DIGITS)
    assert not any(is_taken(other) for other in ("eur", "EU", "EURO", "EUR\n", "ＥUR", ""))


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (123456, "EUR", "1,234.56 EUR"),
        (-5, "EUR", "-0.05 EUR"),
        (123456, "JPY", "123,456 JPY"),
        (123456, "KWD", "123.456 KWD"),
        (1234567, "CLF", "123.4567 CLF"),
        (1, "UYW", "0.0001 UYW"),
        (999_999_999_999, "IDR", "9,999,999,999.99 IDR"),
        # A payment from before currencies had to be in use.
        (1234, "ZZZ", "12.34 ZZZ"),
    ],
)
def test_money_for_people(amount: int, currency: str, text: str) -> None:
    assert format_money(amount, currency) == text


@given(amount=st.integers(-(10**15), 10**15), currency=st.sampled_from(sorted(MINOR_DIGITS)))
def test_no_unit_is_lost_between_what_is_stored_and_what_is_printed(amount: int, currency: str) -> None:
    text, _, printed = format_money(amount, currency).partition(" ")
    whole, point, part = text.replace(",", "").partition(".")
    assert printed == currency
    assert len(part) == minor_digits(currency) == (len(part) if point else 0)
    assert int(whole + part) == amount


@pytest.mark.parametrize(
    ("country", "exists"),
    [
        ("DE", True),
        ("GB", True),
        ("SS", True),
        ("XK", True),
        ("ZZ", False),
        ("UK", False),
        ("EU", False),
        ("DD", False),
    ],
)
def test_countries_are_those_of_iso_3166(country: str, exists: bool) -> None:
    address = {"line1": "1 High Street", "city": "Leeds", "country": country}
    if exists:
        assert validate(address, NewAddress).country == country
    else:
        with pytest.raises(ValidationFailed, match="#/country: is not a country"):
            validate(address, NewAddress)
