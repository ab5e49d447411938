"""How a page goes through a list: the conditions that its rows meet, and the order that they come in."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql

from dues.reads.query import OPERATORS, column_of
from dues.reads.resource import Computed, Flag, Resource, Source
from dues.reads.shape import Shape

_DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
_OPPOSITE = {"desc": "asc", "asc": "desc"}


@dataclass(frozen=True)
class Key:
    """A sort key: what rows are compared by, with `{alias}` for the row, and the type that a value of it is cast to.
    `is_computed`: by the list's source, and no column of the table."""

    sql: str
    type: str
    is_computed: bool = False

    def of(self, alias: str) -> str:
        return self.sql.format(alias=alias)


@dataclass(frozen=True)
class ListWalk:
    """The walk of a list of one shape (`Walk` in resource.py). `is_behind`: the walk to what is on the other side of
    the cursor, from the row that it stands at on."""

    shape: Shape
    is_behind: bool = False

    @property
    def resource(self) -> Resource:
        return self.shape.resource

    @cached_property
    def source(self) -> Source | None:
        """Where the rows are looked for; None: in the resource's table."""
        resource, shape = self.resource, self.shape
        if shape.searched:
            return resource.search
        compared = [name for name in shape.scope if name in resource.table.c]
        compared += [name for name, _, _ in shape.conditions if not isinstance(resource.filters[name], Flag)]
        return resource.source if resource.source and resource.source.serves(compared) else None

    @cached_property
    def keys(self) -> tuple[Key, ...]:
        resource = self.resource
        computed: Mapping[str, str] = self.source.keys if self.source else {}
        if computed:
            first = [Key(f"{{alias}}.{name}", kind, True) for name, kind in computed.items()]
            return (*first, _key(resource, resource.key))
        names = dict.fromkeys((resource.sorts[self.shape.sort.removeprefix("-")].name, resource.key))
        return tuple(_key(resource, name) for name in names)

    @property
    def shown(self) -> str:
        """The direction in which a page is shown."""
        return "desc" if self.shape.sort.startswith("-") else "asc"

    @property
    def direction(self) -> str:
        # Going back, the rows just before the cursor are the first in the opposite order.
        is_back = (self.shape.page in ("prev", "last")) != self.is_behind
        return _OPPOSITE[self.shown] if is_back else self.shown

    @property
    def behind(self) -> "ListWalk":
        return replace(self, is_behind=True)

    def flag(self, name: str) -> bool | None:
        declared = self.resource.filters[name]
        assert isinstance(declared, Flag)
        given = {name: flag for name, _, flag in self.shape.conditions}
        return given.get(name, declared.default)

    def where(self, alias: str) -> str:
        return where(self.shape, alias)

    def after(self, alias: str) -> str:
        if self.shape.page not in ("next", "prev"):
            return ""
        row = ", ".join(key.of(alias) for key in self.keys)
        values = ", ".join(f"%(after{i})s::{key.type}" for i, key in enumerate(self.keys))
        operator = ("<" if self.direction == "desc" else ">") + ("=" if self.is_behind else "")
        return f" and ({row}) {operator} ({values})"

    def order(self, alias: str) -> str:
        return ", ".join(f"{key.of(alias)} {self.direction}" for key in self.keys)

    def key_order(self, alias: str, direction: str = "") -> str:
        """The order of rows that have their keys as `key0`, `key1`, …"""
        return ", ".join(f"{alias}.key{i} {direction or self.direction}" for i in range(len(self.keys)))


def _key(resource: Resource, column: str) -> Key:
    return Key(_comparable(resource, column, "{alias}"), type_of(resource, column))


def _comparable(resource: Resource, column: str, alias: str) -> str:
    """A column as what it is sorted by. Times that are null come before all others: a walk compares rows, and null is
    neither more nor less than anything."""
    if resource.table.c[column].nullable and any(sort.name == column for sort in resource.sorts.values()):
        return f"coalesce({alias}.{column}, '-infinity')"
    return f"{alias}.{column}"


def where(shape: Shape, alias: str = "t") -> str:
    """The conditions of a shape on a row called `alias`."""
    resource = shape.resource
    terms = [f"{alias}.{name} = %({name})s" for name in shape.scope if name in resource.table.c]
    given = {name for name, _, _ in shape.conditions}
    for i, (name, operator, flag) in enumerate(shape.conditions):
        declared = resource.filters[name]
        if isinstance(declared, Flag):
            terms.append(_flag(declared, bool(flag), alias))
        else:
            column = column_of(resource, name)
            compared = _comparable(resource, column.name, alias)
            terms.append(f"{compared} {OPERATORS[operator]} %(filter{i})s::{type_of(resource, column.name)}")
            if compared != f"{alias}.{column.name}" and operator in ("lt", "lte"):
                terms.append(f"{alias}.{column.name} is not null")
    if shape.page is not None:
        for name, declared in resource.filters.items():
            if isinstance(declared, Flag) and declared.default is not None and name not in given:
                terms.append(_flag(declared, declared.default, alias))
    if resource.where:
        terms.append(Computed(resource.where, {}).render(alias))
    if resource.within and shape.page is None:
        terms.append(resource.within)
    return " and ".join(terms) or "true"


def _flag(flag: Flag, value: bool, alias: str) -> str:
    return Computed(flag.when_true if value else flag.when_false, {}).render(alias)


def type_of(resource: Resource, column: str) -> str:
    """A column's type, in SQL."""
    return resource.table.c[column].type.compile(_DIALECT)
