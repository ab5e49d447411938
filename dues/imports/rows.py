"""Records as rows: what a row of each kind may say, and in which form."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from dues.accounts.fields import Email, Name
from dues.clock import Moment
from dues.errors import Fault, Problem, ValidationFailed
from dues.imports.lines import MalformedRecord, Record
from dues.money import Amount
from dues.packages.service import NewPackage
from dues.payments.methods import Token
from dues.text import OneLine
from dues.validation import validate

Kind = Literal["customers", "packages", "subscriptions"]
ExternalId = Annotated[OneLine, Meta(min_length=1, max_length=200)]

_INTEGER = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_SWITCHES = {"true": True, "false": False}
# What a cell of a CSV must be: to whoever wrote the file, 19.00 is a number, and all cells are text.
_CELLS = {"integer": "must be a whole number, such as 1900", "boolean": "must be true or false"}
# A refusal repeats at most this much of what was sent.
_MOST_REPEATED = 100
_MOST_TOLD = 1000
_MOST_NAMED = 200


class CustomerRow(Struct, forbid_unknown_fields=True, kw_only=True):
    """Somebody who buys at the store."""

    external_id: ExternalId
    email: Email
    name: Name


class PackageRow(NewPackage, forbid_unknown_fields=True, kw_only=True):
    """A package to sell."""

    external_id: ExternalId


class SubscriptionRow(Struct, forbid_unknown_fields=True, kw_only=True):
    """A subscription as it stands: of a customer who was imported, or whose address is `email`; to a package that was
    imported, or has the id `package_id`. It is charged next at `current_period_end`, which of a trial is its
    `trial_end`; `amount` is its price, unless that is the package's."""

    external_id: ExternalId
    started_at: Moment
    customer_external_id: ExternalId | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    name: Name | UnsetType = UNSET
    package_external_id: ExternalId | UnsetType = UNSET
    package_id: UUID | UnsetType = UNSET
    status: Literal["trialing", "active", "canceled"] = "active"
    amount: Amount | UnsetType = UNSET
    anchor_at: Moment | UnsetType = UNSET
    current_period_end: Moment | UnsetType = UNSET
    trial_end: Moment | UnsetType = UNSET
    cancel_at_period_end: bool = False
    ended_at: Moment | UnsetType = UNSET
    payment_method: Token | UnsetType = UNSET


AnyRow: TypeAlias = CustomerRow | PackageRow | SubscriptionRow
ROWS: dict[str, type[AnyRow]] = {"customers": CustomerRow, "packages": PackageRow, "subscriptions": SubscriptionRow}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a row is refused; `pointer` names its field."""

    code: str
    detail: str
    pointer: str = ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """A record, and the row that it holds or why it holds none. `digest` is the same for whatever says the same."""

    record: Record
    external_id: str
    row: AnyRow | Refusal
    digest: bytes = b""


def refusal_of(problem: Problem) -> Refusal:
    """All that is wrong with a row, in one sentence."""
    first = problem.errors[0] if problem.errors else Fault(problem.code, problem.detail)
    return Refusal(first.code, _shown(problem.detail[:_MOST_TOLD]), _shown(first.pointer.removeprefix("#")))


def check_columns(columns: Sequence[str], kind: str) -> None:
    """Raises: ValidationFailed for the first line of a CSV that names no columns, or others than `kind` has."""
    known = {field.name: field for field in msgspec.structs.fields(ROWS[kind])}
    if len(columns) == 1 and (mark := next((mark for mark in ";\t|" if mark in columns[0]), None)):
        shown = {"\t": "a tab"}.get(mark, mark)
        raise ValidationFailed.of("#", f"columns are separated by commas, and not by {shown}", "delimiter")
    faults: list[Fault] = []
    for number, name in enumerate(columns, 1):
        shown = name[:_MOST_REPEATED]
        if name in columns[: number - 1]:
            faults.append(Fault("repeated", f"column {number} is called {shown!r}, as another is", "#"))
        elif name not in known:
            names = ", ".join(known)
            faults.append(Fault("unknown", f"column {number}, {shown!r}, is none of {names}", "#"))
    faults += [
        Fault("required", f"there is no column {name}", "#")
        for name, field in known.items()
        if field.required and name not in columns
    ]
    if faults:
        raise ValidationFailed.of_faults(faults)


def parse(record: Record, kind: str, columns: Sequence[str]) -> Parsed:
    """The row that a record holds. `columns`: those of a CSV."""
    external_id = ""
    try:
        value = _value(record, kind, columns)
        external_id = _name(value.get("external_id"))
        row = validate(value, ROWS[kind])
    except MalformedRecord as malformed:
        return Parsed(record, external_id, Refusal(malformed.code, _shown(malformed.detail)))
    except ValidationFailed as invalid:
        in_words = invalid if isinstance(record.content, str) else _as_of_cells(invalid, kind)
        return Parsed(record, external_id, refusal_of(in_words))
    digest = sha256(msgspec.json.encode(row, order="deterministic")).digest()
    return Parsed(record, row.external_id, row, digest)


def _value(record: Record, kind: str, columns: Sequence[str]) -> dict[str, Any]:
    """Raises: MalformedRecord."""
    match record.content:
        case MalformedRecord():
            raise record.content
        case str():
            return _object(record.content)
    cells = record.content
    if len(cells) != len(columns):
        raise MalformedRecord("columns", f"has {len(cells)} cells, and there are {len(columns)} columns")
    # A cell that is empty says nothing: of an optional field, that it is not set.
    return {name: _cell(kind, name, cell) for name, cell in zip(columns, cells, strict=True) if cell}


def _cell(kind: str, name: str, cell: str) -> Any:
    """What a cell says: text, unless the column holds numbers or switches and this is one. `19.00` is no number of
    minor units, whoever wrote it."""
    match _scalars(kind).get(name):
        case "integer" if _INTEGER.fullmatch(cell):
            return int(cell)
        case "boolean" if cell.lower() in _SWITCHES:
            return _SWITCHES[cell.lower()]
    return cell


def _as_of_cells(invalid: ValidationFailed, kind: str) -> ValidationFailed:
    scalars = _scalars(kind)
    return ValidationFailed.of_faults(
        replace(fault, detail=_CELLS[scalars[name]])
        if fault.code == "type" and (name := fault.pointer.removeprefix("#/")) in scalars
        else fault
        for fault in invalid.errors
    )


@cache
def _scalars(kind: str) -> dict[str, str]:
    """The JSON types of a kind's fields, where they have one that is no text."""
    properties = msgspec.json.schema(ROWS[kind])["$defs"][ROWS[kind].__name__]["properties"]
    return {name: schema["type"] for name, schema in properties.items() if schema.get("type") in ("integer", "boolean")}


def _object(text: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
        json.loads(text, object_pairs_hook=_each_once)
    except MalformedRecord:
        raise
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, msgspec.DecodeError) else "a number or a nesting beyond all bounds"
        raise MalformedRecord("malformed_json", f"is not JSON: {reason}") from None
    if not isinstance(value, dict):
        raise MalformedRecord("malformed_json", "is not a JSON object")
    return value


def _each_once(members: Iterable[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise MalformedRecord("malformed_json", f"has the member {name[:_MOST_REPEATED]!r} twice")
        seen.add(name)


def _name(sent: Any) -> str:
    """What stands for the external id of a row that may have none."""
    return _shown(str(sent)[:_MOST_NAMED]) if isinstance(sent, str | int) else ""


def _shown(text: str) -> str:
    """What was sent, as it can be stored and shown."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)
