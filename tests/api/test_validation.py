"""Whatever JSON a body is, it is taken or refused with its faults: for every struct that a route declares."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.app import MODULES
from dues.errors import MOST_FAULTS, Fault, ValidationFailed
from dues.validation import validate

pytestmark = pytest.mark.unit

BODIES = list({struct: None for module in MODULES for route in module.all for struct in route.bodies})

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)
)
values = st.recursive(
    scalars, lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below, max_size=3)
)


@st.composite
def bodies(draw: Any, struct: type[msgspec.Struct], depth: int = 2) -> dict[str, Any]:
    """Some of the struct's fields, and now and then others."""
    fields: dict[str, Any] = {
        field.encode_name: draw(values | st.lists(bodies(below, depth - 1), max_size=2) if below and depth else values)
        for field in msgspec.structs.fields(struct)
        if draw(st.booleans())
        for below in [_struct_in(field.type)]
    }
    others: dict[str, Any] = draw(st.dictionaries(st.text(max_size=5), scalars, max_size=1))
    return fields | others


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    return next((found for part in getattr(kind, "__args__", ()) if (found := _struct_in(part))), None)


@given(data=st.data(), struct=st.sampled_from(BODIES))
def test_any_json_is_a_body_or_is_refused_by_name(data: Any, struct: type[msgspec.Struct]) -> None:
    body = data.draw(bodies(struct) | values)
    found, faults = validated(body, struct)
    assert isinstance(found, struct) or 1 <= len(faults) <= MOST_FAULTS + 1
    assert all(fault.pointer.startswith("#") and fault.detail for fault in faults)


def validated(body: object, struct: type[msgspec.Struct]) -> tuple[object, list[Fault]]:
    try:
        return validate(body, struct), []
    except ValidationFailed as refused:
        return None, refused.errors


def test_a_field_of_any_json_is_not_looked_into() -> None:
    class Anything(msgspec.Struct):
        count: int
        value: Any = None

    with pytest.raises(ValidationFailed) as refused:
        validate({"count": 1.5, "value": [1, [2], {"a": [3]}]}, Anything)
    assert [fault.pointer for fault in refused.value.errors] == ["#/count"]
