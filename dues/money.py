"""Money: an integer of minor units and an ISO 4217 currency. Never a float, never a Decimal.

Currencies and their digits are ISO's own list of those in use (the package iso4217 is that list, as its maintenance
agency publishes it). CLDR has other digits for some, those that people write: a rial would be a hundred times too much.
"""

from typing import Annotated

import iso4217
from msgspec import Meta

from dues.errors import InvalidValue

# Digits after the point. What has no minor unit at all is no money: metals, units of account, codes for tests.
MINOR_DIGITS: dict[str, int] = {
    currency.code: currency.exponent for currency in iso4217.Currency if currency.exponent is not None
}

# What one payment may be: far beyond any real price, and within a JavaScript client's safe integers.
MAX_AMOUNT = 999_999_999_999


def _in_use(code: str) -> str:
    if code not in MINOR_DIGITS:
        raise InvalidValue("choice", "is not a currency of ISO 4217 that is in use")
    return code


Amount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT, description="in minor units of the currency")]
PositiveAmount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT, description="in minor units of the currency")]
# `$` alone would let a last line break by.
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)", description="ISO 4217 code", extra={"normalize": _in_use})]


MILLION = 1_000_000


def rounded(numerator: int, denominator: int) -> int:
    """Half away from zero; the denominator is positive."""
    found = (2 * abs(numerator) + denominator) // (2 * denominator)
    return found if numerator >= 0 else -found


def split_gross(gross: int, rate: int) -> tuple[int, int]:
    """A price that includes tax, whose rate is in parts per million, as net and tax."""
    net = rounded(gross * MILLION, MILLION + rate)
    return net, gross - net


def minor_digits(currency: str) -> int:
    """Digits after the point of amounts in `currency`. A code that was taken before it had to be in use has two."""
    return MINOR_DIGITS.get(currency, 2)


def format_money(amount: int, currency: str) -> str:
    """For people: `format_money(123456, "EUR")` is `1,234.56 EUR`; yen have no minor unit."""
    digits = minor_digits(currency)
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), 10**digits)
    return f"{sign}{whole:,}" + (f".{part:0{digits}d}" if digits else "") + f" {currency}"
