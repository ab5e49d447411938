"""Amounts as Stripe writes them (https://docs.stripe.com/currencies). Ours are in the minor units of ISO 4217, and for
some currencies Stripe counts in others:

- krona and Ugandan shilling have no minor unit, and Stripe wants two digits all the same, both of them 0;
- the ariary has fifths, for which ISO has two digits; Stripe has none;
- of three digits the last has to be 0.
"""

from dues.errors import InvalidValue
from dues.money import minor_digits

_STRIPE_DIGITS = {"ISK": 2, "UGX": 2, "MGA": 0}


def to_stripe(amount: int, currency: str) -> int:
    """Raises: InvalidValue for an amount that Stripe cannot charge."""
    scaled = _scaled(amount, _digits(currency) - minor_digits(currency))
    if scaled is None or (_digits(currency) >= 3 and scaled % 10):
        raise InvalidValue("not_supported", f"Stripe charges no such fraction of {currency}")
    return scaled


def from_stripe(amount: int, currency: str) -> int:
    """Raises: InvalidValue for an amount that we never ask for."""
    scaled = _scaled(amount, minor_digits(currency) - _digits(currency))
    if scaled is None:
        raise InvalidValue("not_supported", f"there is no such fraction of {currency}")
    return scaled


def _digits(currency: str) -> int:
    return _STRIPE_DIGITS.get(currency, minor_digits(currency))


def _scaled(amount: int, digits: int) -> int | None:
    """`amount` with so many digits more, or less; None where those are not 0."""
    if digits >= 0:
        return amount * int(10**digits)
    whole, rest = divmod(amount, int(10**-digits))
    return None if rest else whole
