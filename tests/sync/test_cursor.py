"""How a snapshot is written into a cursor."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.sync.cursor import NOTHING, _lengthen, _shorten, xmin

pytestmark = pytest.mark.unit


@given(st.integers(3, 2**62), st.lists(st.integers(0, 2**40), unique=True), st.integers(0, 2**40))
def test_a_snapshot_comes_back_as_it_was(first: int, behind: list[int], after: int) -> None:
    running = ",".join(str(first + distance) for distance in sorted(behind))
    snapshot = f"{first}:{first + after}:{running}"
    assert _lengthen(_shorten(snapshot)) == snapshot
    assert xmin(snapshot) == first


def test_the_ends() -> None:
    assert _lengthen(_shorten("")) == ""
    assert _lengthen(_shorten(NOTHING)) == NOTHING
    running = ",".join(str(10**12 + n * 7) for n in range(200))
    assert len(_shorten(f"{10**12}:{10**12 + 5000}:{running}")) < 1100
