"""The place `fields` and `include` become a selection: which columns of which rows an answer holds."""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from dues.errors import Fault
from dues.reads.resource import Resource

MAX_INCLUDE_DEPTH = 3


class Selection(NamedTuple):
    """Which fields of a resource are wanted (in the declared order; all if not said), and which includes, nested."""

    fields: tuple[str, ...]
    includes: tuple[tuple[str, "Selection"], ...] = ()


@lru_cache(maxsize=1024)
def select(resource: Resource, include: str | None, fields: str | None) -> tuple[Selection, tuple[Fault, ...]]:
    """What the two parameters select, and all that is wrong with them. Kept, since clients send few different ones
    with ever new filters and cursors."""
    faults: list[Fault] = []
    includes, wanted = _tree(_names("include", include, faults)), _tree(_names("fields", fields, faults))
    return _select(resource, includes, wanted, "", faults), tuple(faults)


def _names(parameter: str, text: str | None, faults: list[Fault]) -> list[str]:
    if text is None:
        return []
    names = text.split(",")
    if not all(names):
        faults.append(Fault(code="invalid", detail="holds an empty name", parameter=parameter))
    return [name for name in names if name]


_Tree = dict[str, "_Tree"]


def _tree(names: Iterable[str]) -> _Tree:
    """`["user", "user.store"]` as `{"user": {"store": {}}}`."""
    tree: _Tree = {}
    for name in names:
        branch = tree
        for part in name.split("."):
            branch = branch.setdefault(part, {})
    return tree


def _select(resource: Resource, includes: _Tree, fields: _Tree, path: str, faults: list[Fault]) -> Selection:
    def fault(parameter: str, detail: str, code: str = "invalid") -> None:
        faults.append(Fault(code=code, detail=detail, parameter=parameter))

    if path.count(".") >= MAX_INCLUDE_DEPTH:
        fault("include", f"goes deeper than {MAX_INCLUDE_DEPTH} levels")
        return Selection(())
    for name in includes.keys() - resource.includes.keys():
        fault("include", f"{path}{name} cannot be included", "unknown")
    nested = {name: resource.includes[name] for name in sorted(includes.keys() & resource.includes.keys())}
    own: list[str] = []
    for name, below in fields.items():
        if name in nested:
            if not below:
                fault("fields", f"{path}{name} is an include: name its fields, as {path}{name}.id")
        elif name in resource.fields and not below:
            own.append(name)
        else:
            fault("fields", f"{path}{name} is not a field", "unknown")
    chosen = tuple(name for name in resource.fields if not fields or name in own)
    return Selection(
        chosen,
        tuple(
            (name, _select(included.resource, includes[name], fields.get(name, {}), f"{path}{name}.", faults))
            for name, included in nested.items()
        ),
    )
