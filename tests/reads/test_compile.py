"""A statement says nothing that a client wrote: names come from the resource, values are bound."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.reads import plan_list, plan_one, serve
from dues.reads.query import parse_query
from dues.reads.resource import Resource, Scope
from dues.reads.shape import bind, shape_of
from dues.social.reads import posts_scope
from dues.social.visibility import Viewer
from tests.reads.queries import LISTED, STANDS_OUT, valid_parameters

pytestmark = pytest.mark.unit

_ID = UUID("019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20")
_PLACE = re.compile(r"%\((\w+)\)s")
resources = st.sampled_from(LISTED)


@pytest.fixture(autouse=True, scope="module")
def _on_one_server() -> Iterator[None]:
    """There is none to be asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(serve, "is_spread", lambda: False)
        yield


class _Asked(dict[str, str]):
    """A scope that is whatever it is asked for."""

    def __missing__(self, name: str) -> str:
        self[name] = str(_ID)
        return self[name]


def _scope(resource: Resource) -> Scope:
    """Of nobody, as posts ask for it, with the names that the resource's tags rest on, and its store."""
    asked = _Asked()
    resource.tags(asked)
    names = {*asked, *({"store_id"} & set(resource.table.c.keys()))}
    return {**posts_scope(Viewer()), **dict.fromkeys(sorted(names), _ID)}


@given(data=st.data(), resource=resources)
def test_every_value_is_bound_and_none_is_written(data: Any, resource: Resource) -> None:
    args = data.draw(valid_parameters(resource))
    plan = plan_list(resource, _scope(resource), parse_query(resource, args), "/v1/x", urlencode(args))
    statement, values = plan.statement()
    # Of the scope a resource's own expressions may ask for more.
    asked = set(_PLACE.findall(statement))
    assert {name for name in asked if name.startswith(("filter", "after", "offset", "words"))} <= values.keys()
    assert {name for name in values if name.startswith("filter")} <= asked
    assert "%" not in _PLACE.sub("", statement).replace("%%", "")
    assert statement.count("(") == statement.count(")")
    assert STANDS_OUT not in statement


@given(data=st.data(), resource=resources)
def test_the_same_shape_has_the_same_statement_whatever_the_values(data: Any, resource: Resource) -> None:
    first, other = (parse_query(resource, data.draw(valid_parameters(resource))) for _ in range(2))
    scope = _scope(resource)
    shapes = [shape_of(resource, scope, query, "first") for query in (first, other)]
    if shapes[0] == shapes[1]:
        assert bind(first, scope, resource).keys() == bind(other, scope, resource).keys()
    # A value is no part of a shape.
    assert all(str(condition.value) not in repr(shapes[0].scope) for condition in first.conditions)


@given(data=st.data(), resource=resources)
def test_a_single_row_is_asked_for_by_its_scope(data: Any, resource: Resource) -> None:
    fields = data.draw(st.lists(st.sampled_from(sorted(resource.fields)), min_size=1, max_size=3, unique=True))
    scope = {**_scope(resource), resource.key: _ID}
    plan = plan_one(resource, scope, parse_query(resource, [("fields", ",".join(fields))], one=True))
    statement, _ = plan.statement()
    for name in scope:
        if name in resource.table.c:
            assert f"t.{name} = %({name})s" in statement
