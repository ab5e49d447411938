"""The tax of a credit note. Amounts are minor units, and include their tax."""

from dues.money import rounded


def split_credit(total: int, *, of_net: int, of_tax: int, credited_net: int, credited_tax: int) -> tuple[int, int]:
    """Net and tax of crediting `total` of an invoice of `of_net` and `of_tax`, of which some was credited before. Each
    is rounded once, by what is credited in all, so that credits of any sizes add up to the invoice."""
    whole = of_net + of_tax
    if whole == 0:
        return total, 0
    tax = rounded(of_tax * (credited_net + credited_tax + total), whole) - credited_tax
    return total - tax, tax
