"""A cursor is what was given out for one list, to the letter, or it is refused."""

import pytest
import ujson
from hypothesis import assume, given
from hypothesis import strategies as st

from dues.errors import InvalidParameter
from dues.reads.cursor import read_cursor, write_cursor

pytestmark = pytest.mark.unit

keys = st.lists(st.text(max_size=20) | st.integers(-(2**53), 2**53), max_size=3)


def _written(values: list[str | int], *, forward: bool = True, binding: str = "list") -> str:
    # As PostgreSQL writes an array.
    return write_cursor(ujson.dumps(values, escape_forward_slashes=False), forward=forward, binding=binding, secret="s")


@given(values=keys, forward=st.booleans(), binding=st.text(max_size=20))
def test_what_was_written_is_read(values: list[str | int], forward: bool, binding: str) -> None:
    cursor = _written(values, forward=forward, binding=binding)
    assert read_cursor(cursor, binding=binding, secret="s") == (forward, values)
    # It goes into a URL as it stands.
    assert cursor.replace("-", "").replace("_", "").isalnum()


@given(values=keys, other=st.text(max_size=20))
def test_it_is_bound_to_its_list_and_its_secret(values: list[str | int], other: str) -> None:
    cursor = _written(values)
    assume(other not in ("list", "s"))
    for binding, secret in ((other, "s"), ("list", other)):
        with pytest.raises(InvalidParameter):
            read_cursor(cursor, binding=binding, secret=secret)


@given(data=st.data(), values=keys)
def test_one_changed_character_is_refused(data: st.DataObject, values: list[str | int]) -> None:
    cursor = _written(values)
    place = data.draw(st.integers(0, len(cursor) - 1))
    changed = cursor[:place] + data.draw(st.characters(max_codepoint=0x7F)) + cursor[place + 1 :]
    assume(changed != cursor)
    with pytest.raises(InvalidParameter, match="cursor"):
        read_cursor(changed, binding="list", secret="s")


@given(text=st.text(max_size=60))
def test_what_was_never_given_out_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter):
        read_cursor(text, binding="list", secret="s")
