"""Amounts in Stripe's units (https://docs.stripe.com/currencies). Ours are in the minor units of ISO 4217, which differ
for some currencies:

- The Icelandic krona and the Ugandan shilling have no minor unit, but Stripe expects two decimal digits, both 0.
- The ariary is divided into fifths, for which ISO has two digits; Stripe has none.
- Of three decimal digits, the last has to be 0.
"""

from dues.errors import InvalidValue
from dues.money import minor_digits

_STRIPE_DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}


def to_stripe(amount: int, currency: str) -> int:
    """An amount in Stripe's units. Raises: InvalidValue for an amount that Stripe cannot charge."""
    scaled = _scaled(amount, _digits(currency) - minor_digits(currency))
    if scaled is None or (_digits(currency) >= 3 and scaled % 10):
        raise InvalidValue("not_supported", f"Stripe charges no such fraction of {currency}")
    return scaled


def from_stripe(amount: int, currency: str) -> int:
    """An amount in our minor units. Raises: InvalidValue for a fraction that the currency does not have."""
    scaled = _scaled(amount, minor_digits(currency) - _digits(currency))
    if scaled is None:
        raise InvalidValue("not_supported", f"there is no such fraction of {currency}")
    return scaled


def _digits(currency: str) -> int:
    return _STRIPE_DIGITS.get(currency, minor_digits(currency))


def _scaled(amount: int, digits: int) -> int | None:
    """`amount` with `digits` more decimal digits, or fewer if negative; None if the digits dropped are not 0."""
    if digits >= 0:
        return amount * int(10**digits)
    whole, rest = divmod(amount, int(10**-digits))
    return None if rest else whole
