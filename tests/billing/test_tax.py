"""Taxes and their roundings: the cases I3 to I10 of the design."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.billing.tax import credit_tax, share_out, split_credit, tax_on, treatment
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
    ("price", "rate", "credited", "total"),
    [
        pytest.param(20000, 250_000, 19333, 24166, id="I5"),
        pytest.param(16000, 250_000, 15467, 19334, id="I6"),
        pytest.param(2999, 233_300, 2571, 3171, id="I7"),
    ],
)
def test_a_credit_note_of_a_part(price: int, rate: int, credited: int, total: int) -> None:
    tax = credit_tax(credited, of_net=price, of_tax=tax_on(price, rate), credited_net=0, credited_tax=0)
    assert credited + tax == total


def test_I8_credits_add_up_to_the_invoice() -> None:
    net, tax = 76900, tax_on(76900, 200_000)
    assert net + tax == 92280
    first = credit_tax(72686, of_net=net, of_tax=tax, credited_net=0, credited_tax=0)
    second = credit_tax(4214, of_net=net, of_tax=tax, credited_net=72686, credited_tax=first)
    assert (72686 + first, 4214 + second) == (87223, 5057)
    assert net + tax == 87223 + 5057


@pytest.mark.parametrize(
    ("buyer", "vat_id", "expected"),
    [
        ("US", None, "exempt"),
        ("FR", False, "seller_rate"),
        ("IT", False, "buyer_rate"),
        ("IT", True, "reverse_charge"),
        ("FR", True, "seller_rate"),
        ("IT", None, "buyer_rate"),
    ],
)
def test_I10_where_a_french_seller_pays_tax(buyer: str, vat_id: bool | None, expected: str) -> None:
    assert treatment("FR", buyer, has_valid_vat_id=vat_id) == expected


@given(st.integers(0, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_R22_parts_add_up_and_none_is_off_by_more_than_one(total: int, weights: list[int]) -> None:
    parts = share_out(total, weights)
    assert sum(parts) == total
    if whole := sum(weights):
        assert all(abs(part * whole - total * weight) < whole for part, weight in zip(parts, weights, strict=True))


@given(st.integers(1, 10**9), st.integers(0, 300_000), st.lists(st.integers(1, 10**8), max_size=10))
def test_R22_credits_of_any_sizes_add_up_to_the_invoice(net: int, rate: int, sizes: list[int]) -> None:
    tax, given_net, given_tax = tax_on(net, rate), 0, 0
    for size in [*sizes, 10**10]:
        part = min(size, net + tax - given_net - given_tax)
        more_net, more_tax = split_credit(part, of_net=net, of_tax=tax, credited_net=given_net, credited_tax=given_tax)
        given_net, given_tax = given_net + more_net, given_tax + more_tax
    assert (given_net, given_tax) == (net, tax)
