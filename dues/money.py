"""Money: an integer of minor units and an ISO 4217 currency. Never a float, never a Decimal."""

from typing import Annotated

from msgspec import Meta

# Digits after the point of the currencies that do not have two (ISO 4217, table A.1).
MINOR_DIGITS = {
    **dict.fromkeys("BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(), 0),
    **dict.fromkeys("BHD IQD JOD KWD LYD OMR TND".split(), 3),
}

# What one payment may be: far beyond any real price, and within a JavaScript client's safe integers.
MAX_AMOUNT = 999_999_999_999

Amount = Annotated[int, Meta(ge=0, le=MAX_AMOUNT, description="in minor units of the currency")]
PositiveAmount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT, description="in minor units of the currency")]
# `$` alone would let a last line break by.
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}$(?!\n)", description="ISO 4217 code")]


def format_money(amount: int, currency: str) -> str:
    """For people: `format_money(123456, "EUR")` is `1,234.56 EUR`; yen have no minor unit."""
    digits = MINOR_DIGITS.get(currency, 2)
    sign = "-" if amount < 0 else ""
    whole, part = divmod(abs(amount), 10**digits)
    return f"{sign}{whole:,}" + (f".{part:0{digits}d}" if digits else "") + f" {currency}"
