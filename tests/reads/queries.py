"""Parameters of lists, made up: any that look like some, and those that must be accepted."""

from typing import Any

from hypothesis import strategies as st
from sqlalchemy import types

from api.app import MODULES
from dues.reads.query import MAX_ROWS, OPERATORS
from dues.reads.resource import Equal, Flag, Range, Resource

Args = list[tuple[str, str]]

# Every resource that a route lists.
LISTED: list[Resource] = list(
    {route.lists.name: route.lists for module in MODULES for route in module.all if route.lists}.values()
)
# No statement has this of its own.
STANDS_OUT = "Ω"
_OTHERS = "fields include sort page per_page page_size total cursor limit meta_style q".split()
_OTHERS += ["colour", "fields[]", "include[]"]
_SOME_TEXT = st.text(max_size=12) | st.sampled_from(
    ["", "1", "0", "-1", "100", "101", "true", "exact", "drf", "id", "id,id", "user", "user.name", "-created_at"]
)


def parameters(resource: Resource) -> st.SearchStrategy[Args]:
    """Names that exist and names that do not, with any values."""
    suffixes = ["", *(f"[{operator}]" for operator in OPERATORS if operator), "[like]"]
    names = [f"{name}{suffix}" for name in resource.filters for suffix in suffixes] + _OTHERS
    return st.lists(st.tuples(st.sampled_from(names) | st.text(max_size=8), _SOME_TEXT), max_size=6)


@st.composite
def valid_parameters(draw: Any, resource: Resource) -> Args:
    """Each name at most once, with values of its kind."""
    args: Args = []
    for name, declared in resource.filters.items():
        if draw(st.integers(0, 3)):
            continue
        operator = draw(st.sampled_from(sorted(OPERATORS))) if isinstance(declared, Range) else ""
        args.append((f"{name}[{operator}]" if operator else name, draw(_value(declared))))
    if draw(st.booleans()):
        names = draw(st.lists(st.sampled_from(sorted(resource.fields)), min_size=1, max_size=4, unique=True))
        args.append(("fields", ",".join(names)))
    if resource.includes and draw(st.booleans()):
        args.append(("include", draw(st.sampled_from(sorted(resource.includes)))))
    if draw(st.booleans()):
        args.append(("sort", draw(st.sampled_from(["", "-"])) + draw(st.sampled_from(sorted(resource.sorts)))))
    if draw(st.booleans()):
        size = draw(st.integers(1, MAX_ROWS))
        by_number = [("page", str(draw(st.integers(1, 1000)))), ("per_page", str(size))]
        args += draw(st.sampled_from([by_number, [("cursor", ""), ("limit", str(size))]]))
    return args


def _value(declared: Equal | Range | Flag) -> st.SearchStrategy[str]:
    if isinstance(declared, Equal) and declared.choices:
        return st.sampled_from(list(declared.choices))
    kind = types.Boolean() if isinstance(declared, Flag) else declared.column.type
    return next(values for of_kind, values in _VALUES.items() if isinstance(kind, of_kind))


_VALUES: dict[type[types.TypeEngine[Any]], st.SearchStrategy[str]] = {
    types.Uuid: st.uuids().map(str),
    types.DateTime: st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
    types.Boolean: st.sampled_from(["true", "false"]),
    types.Integer: st.integers(-(10**17), 10**17).map(str),
    types.String: st.text(st.sampled_from("'\"%();-Ä"), max_size=8).map(lambda text: (STANDS_OUT + text)[:3]),
}
