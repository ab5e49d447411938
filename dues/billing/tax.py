"""The tax of a credit note. Amounts are in minor units and include their tax."""

from dues.money import rounded


def split_credit(total: int, *, of_net: int, of_tax: int, credited_net: int, credited_tax: int) -> tuple[int, int]:
    """The net amount and the tax of crediting `total` of an invoice with `of_net` and `of_tax`, of which `credited_net`
    and `credited_tax` were credited before. The tax is rounded on the cumulative sum, so that credits of any size add
    up exactly to the invoice's tax."""
    whole = of_net + of_tax
    if whole == 0:
        return total, 0
    tax = rounded(of_tax * (credited_net + credited_tax + total), whole) - credited_tax
    return total - tax, tax
