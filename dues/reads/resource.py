"""The place a read is declared: what of a table may be seen, joined, filtered and sorted.

    payments = Resource(
        "Payment", Payment,
        fields={"id": Payment.id, "links": Computed("json_build_object('self', '/v1/payments/' || {id})", LINKS)},
        includes={"user": One(users, {User.id: Payment.user_id})},
        filters={"status": Equal(Payment.status, STATUSES), "amount": Range(Payment.amount)},
        sorts={"created_at": Payment.created_at}, default_sort="-created_at",
        tags=lambda scope: (f"store:{scope['store_id']}:payments",),
    )

From it come the SQL (compile.py), the parameters a request may have (query.py) and the OpenAPI schema.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Table, types
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import InstrumentedAttribute

Column = InstrumentedAttribute[Any]
Schema = dict[str, Any]
Scope = Mapping[str, UUID | str | bool | None]

# Columns of a row that a statement knows by a value: SQL by their names. Said in the place of the column, the store's
# tells a database that is spread over several servers that one of them has all that is asked for.
Known = Mapping[str, str]
NOTHING_KNOWN: Known = MappingProxyType({})
# How many rows a to-many include shows; its resource's `links` lead to the rest.
INCLUDED_ROWS = 20


@dataclass(frozen=True)
class Computed:
    """A field that is an SQL expression; `{name}` stands for a column of the resource's table, and `%(name)s` for
    a value of the scope. `schema` is the JSON schema of what it yields."""

    sql: str
    schema: Schema

    def columns(self) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(self.sql) if name}

    def render(self, alias: str, known: Known = NOTHING_KNOWN) -> str:
        """On the row called `alias`, or on what is `known` of it."""
        return self.sql.format_map({**{name: f"{alias}.{name}" for name in self.columns()}, **known})


@dataclass(frozen=True)
class One:
    """A to-one include: an object or null. `on` pairs the other table's columns with this one's. `is_elsewhere`: on
    Citus the other table is on other servers than this one."""

    resource: "Resource"
    on: Mapping[Column, Column]
    is_elsewhere: bool = False


@dataclass(frozen=True)
class Many:
    """A to-many include: the newest `INCLUDED_ROWS` by the other resource's default sort. `where` is a further
    condition on the other table, written as in Computed."""

    resource: "Resource"
    on: Mapping[Column, Column]
    where: str = ""


@dataclass(frozen=True)
class Equal:
    """`name=value`; with `choices` anything else is refused."""

    column: Column
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Range:
    """`name[gt|gte|lt|lte]=value`, or `name=value`."""

    column: Column


@dataclass(frozen=True)
class Flag:
    """`name=true|false`: one SQL condition or the other; `default` holds where the request does not say."""

    when_true: str
    when_false: str
    default: bool | None = None


Filter = Equal | Range | Flag


class Walk(Protocol):
    """How a page goes through a list: `direction` (asc or desc) along its sort keys. The methods give SQL on a row of
    the resource's table that is called `alias` there."""

    @property
    def direction(self) -> str: ...

    def flag(self, name: str) -> bool | None:
        """The value of a Flag filter, its default where the request does not say."""
        ...

    def where(self, alias: str) -> str:
        """The conditions that every row of the list meets."""
        ...

    def after(self, alias: str) -> str:
        """That a row comes after the cursor: ` and …`, or nothing for a page without one."""
        ...


class Source(Protocol):
    """Where a list's rows are looked for, for a resource whose own conditions no single index serves.

    `given` are common table expressions (`name as (…), `) for the statement. `keys` are sort keys that it computes, by
    name with their SQL types, and which go before the resource's own; none: the rows keep the list's sort. `estimated`
    is a query whose rows the planner is to estimate where a total is large; none: it is just said to be large.
    """

    @property
    def given(self) -> str: ...

    @property
    def keys(self) -> Mapping[str, str]: ...

    @property
    def estimated(self) -> str: ...

    def serves(self, columns: Sequence[str]) -> bool:
        """Whether it is of use for a list in which these columns are compared with values."""
        ...

    def rows(self, walk: Walk, limit: str) -> str:
        """A query of the resource's key and `keys`, for the first `limit` (SQL) rows after the cursor. What it finds
        still has to meet the list's conditions."""
        ...

    def counted(self, walk: Walk, limit: str) -> str:
        """A query with a row for each row of the list, at most `limit` (SQL, or `all`), in any order."""
        ...


@dataclass(frozen=True)
class Apart:
    """Rows that a statement takes `from` somewhere, and the query of their JSON by which they can be read before it.
    `columns` are those of the JSON, with their types."""

    source: str
    query: str
    columns: str

    def given(self, sql: str) -> str:
        """The statement with the rows as a value called `apart`."""
        alias = self.source.rpartition(" ")[2]
        return sql.replace(
            f"from {self.source}", f"from jsonb_to_recordset(%(apart)s::jsonb) as {alias}({self.columns})"
        )


@dataclass(frozen=True, eq=False)
class Resource:
    """What may be read of one table.

    `name` is the schema's name in OpenAPI. `key` names the columns that identify one row within a scope.
    `where` is a condition that every row must meet, included ones too, written as in Computed. `within` is one on
    the scope alone, for rows below another row: where it does not hold there is nothing to read, not even an empty
    list. `tags(scope)` gives the cache tags that a read within that scope depends on; what has none is never kept.
    `until` is when an answer changes though nothing is written, as an SQL expression on the scope alone. `source` is
    where lists are looked for, and `search` where those with words to be found (`q`) are.

    With `words` an answer follows the journal (dues/reads/tags.py): it is out of date once a write records a change of
    something that it shows, which is named by the ids in these columns of each row; of what the read is about,
    `subjects(scope)`: ids, and words of the journal; or of the `audience`, whom and what the viewer looks at, as an SQL
    query of ids called `id`.

    `apart` is what a statement names and Citus would look for on all servers each time: there it is read first.
    """

    name: str
    model: type[Any]
    fields: Mapping[str, Column | Computed]
    tags: Callable[[Scope], Sequence[str]]
    includes: Mapping[str, One | Many] = field(default_factory=dict)
    filters: Mapping[str, Filter] = field(default_factory=dict)
    sorts: Mapping[str, Column] = field(default_factory=dict)
    default_sort: str = "-created_at"
    key: str = "id"
    where: str = ""
    within: str = ""
    until: str = ""
    source: Source | None = None
    search: Source | None = None
    words: tuple[str, ...] = ()
    subjects: Callable[[Scope], Sequence[str | bytes]] = lambda scope: ()
    audience: str = ""
    apart: "Apart | None" = None

    def __post_init__(self) -> None:
        for name, column in self.sorts.items():
            if column.nullable and not isinstance(column.type, types.DateTime):
                raise TypeError(f"{self.name}: cannot sort by {name}, which may be null and is no time")
        if self.sorts and self.default_sort.lstrip("-") not in self.sorts:
            raise TypeError(f"{self.name}: default_sort {self.default_sort!r} is not among the sorts")

    @property
    def table(self) -> Table:
        table: Table = self.model.__table__
        return table

    def field_schema(self, name: str) -> Schema:
        declared = self.fields[name]
        return declared.schema if isinstance(declared, Computed) else column_schema(declared)

    def schema(self) -> Schema:
        """JSON schema of one item: its fields, all of which are there unless `fields` asks for some, and its includes
        as references."""
        properties: dict[str, Schema] = {name: self.field_schema(name) for name in self.fields}
        for name, include in self.includes.items():
            reference: Schema = {"$ref": f"#/components/schemas/{include.resource.name}"}
            properties[name] = (
                {"oneOf": [reference, {"type": "null"}]}
                if isinstance(include, One)
                else {"type": "array", "items": reference, "maxItems": INCLUDED_ROWS}
            )
        required = list(self.fields)
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def column_schema(column: Column) -> Schema:
    """JSON schema of a column as `row_to_json` writes it."""
    schema = type_schema(column.type)
    if column.nullable:
        schema["type"] = [schema["type"], "null"]
    return schema


def type_schema(kind: types.TypeEngine[Any]) -> Schema:
    match kind:
        case types.Uuid():
            return {"type": "string", "format": "uuid"}
        case types.DateTime():
            return {"type": "string", "format": "date-time"}
        case types.Boolean():
            return {"type": "boolean"}
        case types.Integer():
            return {"type": "integer"}
        case types.String():
            return {"type": "string"}
        case ARRAY():
            return {"type": "array", "items": type_schema(kind.item_type)}
    raise TypeError(f"no JSON schema is known for {kind!r}: use Computed with a schema of its own")


def links_schema(*names: str, nullable: tuple[str, ...] = ()) -> Schema:
    """The schema of a `links` object: absolute-path references; those of `nullable` may be null."""
    link: Schema = {"type": "string", "format": "uri-reference"}
    either: Schema = {"type": ["string", "null"], "format": "uri-reference"}
    properties = dict.fromkeys(names, link) | dict.fromkeys(nullable, either)
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}
