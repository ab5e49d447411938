"""Taxes and their roundings. Rates are parts per million; amounts are minor units.

The tax of a rate is that of the sum of its lines, and is shared out to them so that the parts add up to it; what is
credited bit by bit adds up to the whole.
"""

from collections.abc import Sequence
from typing import Literal

from dues.money import MILLION, rounded

# Members of the European Union, whose rules tell where a digital sale is taxed.
EU = frozenset("AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK".split())

Treatment = Literal["seller_rate", "buyer_rate", "reverse_charge", "exempt"]


def tax_on(net: int, rate: int) -> int:
    return rounded(net * rate, MILLION)


def share_out(total: int, weights: Sequence[int]) -> list[int]:
    """`total` in parts as the weights are, which add up to it: by largest remainder, of equal ones to the first."""
    whole = sum(weights)
    if whole == 0:
        return [total] + [0] * (len(weights) - 1) if weights else []
    parts = [total * weight // whole for weight in weights]
    left = sorted(range(len(weights)), key=lambda i: (-(total * weights[i] % whole), i))
    for i in left[: total - sum(parts)]:
        parts[i] += 1
    return parts


def credit_tax(net: int, *, of_net: int, of_tax: int, credited_net: int, credited_tax: int) -> int:
    """The tax of crediting `net` of an invoice of `of_net` and `of_tax`, of which some was credited before."""
    if of_net == 0:
        return 0
    return rounded(of_tax * (credited_net + net), of_net) - credited_tax


def split_credit(total: int, *, of_net: int, of_tax: int, credited_net: int, credited_tax: int) -> tuple[int, int]:
    """A credit of `total`, tax included, as net and tax."""
    whole = of_net + of_tax
    if whole == 0:
        return total, 0
    tax = rounded(of_tax * (credited_net + credited_tax + total), whole) - credited_tax
    return total - tax, tax


def treatment(seller: str, buyer: str, *, has_valid_vat_id: bool | None) -> Treatment:
    """How a digital sale from one country to another is taxed. `has_valid_vat_id`: None where that could not be asked,
    and then it is taken for none: nothing is sold untaxed on an unproved number."""
    if buyer not in EU:
        return "exempt"
    if buyer == seller:
        return "seller_rate"
    return "reverse_charge" if has_valid_vat_id else "buyer_rate"
