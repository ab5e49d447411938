"""Whatever is sent as parameters: a query, or a refusal that names each parameter that is wrong."""

from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dues.errors import Fault, InvalidParameter
from dues.reads.query import MAX_ROWS, CursorPage, Query, normal_text, parse_query
from dues.reads.resource import Equal, Flag, Range, Resource
from tests.reads.queries import LISTED, Args, parameters, valid_parameters

pytestmark = pytest.mark.unit

resources = st.sampled_from(LISTED)


def read(resource: Resource, args: Args) -> tuple[Query | None, list[Fault]]:
    try:
        return parse_query(resource, args), []
    except InvalidParameter as refused:
        return None, refused.errors


@given(data=st.data(), resource=resources)
def test_any_parameters_are_read_or_refused_by_name(data: Any, resource: Resource) -> None:
    args = data.draw(parameters(resource))
    query, faults = read(resource, args)
    names = {name for name, _ in args} | {name.removesuffix("[]") for name, _ in args}
    # Where there are more faults than a problem names, its last says so and has no name.
    assert {fault.parameter for fault in faults} <= names | {""}
    if query is None:
        assert faults
        return
    assert set(query.selection.fields) <= resource.fields.keys()
    assert {name for name, _ in query.selection.includes} <= resource.includes.keys()
    assert {condition.name for condition in query.conditions} <= resource.filters.keys()
    assert 1 <= query.page.size <= MAX_ROWS


@given(data=st.data(), resource=resources)
def test_equal_requests_are_equal_queries_in_whatever_order(data: Any, resource: Resource) -> None:
    args = data.draw(valid_parameters(resource))
    query = parse_query(resource, args)
    assert parse_query(resource, data.draw(st.permutations(args))) == query
    assert isinstance(query.page, CursorPage) == any(name in ("cursor", "limit") for name, _ in args)


@given(data=st.data(), resource=resources)
def test_lists_of_names_mean_the_same_in_each_way_of_writing_them(data: Any, resource: Resource) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(resource.fields)), min_size=1, max_size=4, unique=True))
    joined = parse_query(resource, [("fields", ",".join(names))])
    for name in ("fields", "fields[]"):
        split = urlencode([(name, value) for value in names])
        assert parse_query(resource, parse_qsl(normal_text(split))) == joined
        assert normal_text(normal_text(split)) == normal_text(split)


@given(text=st.text(st.sampled_from("fieldsinclude[]=&,%5bd a"), max_size=40))
def test_a_query_string_is_normal_after_one_turn(text: str) -> None:
    assert normal_text(normal_text(text)) == normal_text(text)


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("sort=nothing", [("sort", "invalid")]),
        ("sort=amount&sort=amount", [("sort", "repeated")]),
        ("status=lost", [("status", "invalid")]),
        ("status[gt]=failed", [("status[gt]", "unknown")]),
        ("amount=1.5", [("amount", "invalid")]),
        ("amount=１", [("amount", "invalid")]),
        ("per_page=0", [("per_page", "invalid")]),
        ("per_page=101", [("per_page", "invalid")]),
        ("page=1&cursor=", [("page", "conflict")]),
        ("page_size=2&per_page=2", [("page_size", "conflict")]),
        ("include=user.payments", [("include", "unknown")]),
        ("include=user&fields=user", [("fields", "invalid")]),
        ("fields=id,,amount", [("fields", "invalid")]),
        ("colour=red&size=4", [("colour", "unknown"), ("size", "unknown")]),
        ("user_id=42&amount=x", [("amount", "invalid"), ("user_id", "invalid")]),
        ("status=%00", [("status", "invalid"), ("status", "invalid")]),
    ],
)
def test_each_fault_is_named(text: str, faults: list[tuple[str, str]]) -> None:
    payments = next(resource for resource in LISTED if resource.name == "Payment")
    with pytest.raises(InvalidParameter) as refused:
        parse_query(payments, parse_qsl(text, keep_blank_values=True))
    found = sorted((fault.parameter, fault.code) for fault in refused.value.errors)
    assert found == faults


def test_the_resources_have_every_kind_of_filter() -> None:
    kinds = {type(declared) for resource in LISTED for declared in resource.filters.values()}
    assert kinds == {Equal, Range, Flag}
    assert Query(parse_query(LISTED[0], ()).selection) != parse_query(LISTED[0], [("cursor", "")])
