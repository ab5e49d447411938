"""What comes from a balance and what is charged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.billing.balance import MINIMUM_CHARGE, apply_balance

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("total", "balance", "currency", "due", "left"),
    [
        pytest.param(10, 0, "USD", 0, -10, id="N14 too little to be charged"),
        pytest.param(5000, -10, "USD", 5010, 0, id="N14 is owed with the next"),
        pytest.param(5000, 10000, "EUR", 0, 5000, id="N15 covered"),
        pytest.param(5000, 3000, "EUR", 2000, 0, id="N15 in part"),
        pytest.param(0, 0, "EUR", 0, 0, id="N16"),
        pytest.param(0, -10, "EUR", 0, -10, id="nothing is charged for what is free"),
        pytest.param(-1450, 0, "EUR", 0, 1450, id="P12"),
        pytest.param(-1450, -20, "EUR", 0, 1430, id="below zero and back"),
        pytest.param(5000, 4980, "EUR", 0, -20, id="all but too little"),
        pytest.param(49, 0, "EUR", 0, -49, id="one less than the least"),
        pytest.param(50, 0, "EUR", 50, 0, id="the least"),
        pytest.param(1, 0, "ISK", 1, 0, id="no least is known"),
    ],
)
def test_what_is_due_and_what_is_left(total: int, balance: int, currency: str, due: int, left: int) -> None:
    applied, found = apply_balance(total, balance, currency)
    assert (found, balance - applied) == (due, left)


@given(st.integers(-(10**6), 10**6), st.integers(-40, 10**6), st.sampled_from(["USD", "JPY", "KWD"]))
def test_nothing_is_lost_and_nothing_charged_that_a_gateway_refuses(total: int, balance: int, currency: str) -> None:
    applied, due = apply_balance(total, balance, currency)
    assert applied + due == total
    assert due == 0 or due >= MINIMUM_CHARGE.get(currency, 1)
    assert balance - applied > -MINIMUM_CHARGE.get(currency, 1)
