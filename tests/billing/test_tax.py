"""Taxes that prices include, and their roundings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.billing.tax import split_credit
from dues.money import split_gross

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("gross", "rate", "net", "tax"),
    [(1000, 190_000, 840, 160), (999, 70_000, 934, 65), (1, 190_000, 1, 0), (100, 255_000, 80, 20)],
    ids=lambda value: f"I3-{value}",
)
def test_a_price_includes_its_tax(gross: int, rate: int, net: int, tax: int) -> None:
    assert split_gross(gross, rate) == (net, tax)


@pytest.mark.parametrize(
    ("net", "tax", "parts"),
    [
        pytest.param(20000, 5000, [(19333, 4833)], id="I5"),
        pytest.param(16000, 4000, [(15467, 3867)], id="I6"),
        pytest.param(2999, 700, [(2571, 600)], id="I7"),
        pytest.param(76900, 15380, [(72686, 14537), (4214, 843)], id="I8"),
        pytest.param(100, 20, [(1, 0), (1, 0), (0, 1), (98, 19)], id="cent by cent"),
    ],
)
def test_what_is_credited_of_an_invoice(net: int, tax: int, parts: list[tuple[int, int]]) -> None:
    net_so_far, tax_so_far = 0, 0
    for expected in parts:
        total = sum(expected)
        found = split_credit(total, of_net=net, of_tax=tax, credited_net=net_so_far, credited_tax=tax_so_far)
        assert found == expected
        net_so_far, tax_so_far = net_so_far + found[0], tax_so_far + found[1]


@given(st.integers(1, 10**9), st.integers(0, 300_000), st.lists(st.integers(1, 10**8), max_size=10))
def test_R22_credits_of_any_sizes_add_up_to_the_invoice(gross: int, rate: int, sizes: list[int]) -> None:
    net, tax = split_gross(gross, rate)
    given_net, given_tax = 0, 0
    for size in [*sizes, 10**10]:
        part = min(size, gross - given_net - given_tax)
        more_net, more_tax = split_credit(part, of_net=net, of_tax=tax, credited_net=given_net, credited_tax=given_tax)
        given_net, given_tax = given_net + more_net, given_tax + more_tax
    assert (given_net, given_tax) == (net, tax)
