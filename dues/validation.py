"""A parsed body as the struct that a route declares: in its normal form, or refused with its faults.

msgspec checks types and bounds, and stops at the first fault: a body that it refuses is gone through once more, field
by field. A type whose rule is more than a schema can say has a function in its Meta, `extra={"normalize": f}`: it
returns the value's normal form, or raises InvalidValue.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from dues.errors import Fault, InvalidValue, ValidationFailed

T = TypeVar("T", bound=msgspec.Struct)

# A body with this many members more than its struct is refused as a whole; of one with fewer each unknown member is
# named.
_MOST_UNKNOWN = 20
# An answer repeats at most this many characters of what was sent.
_MOST_REPEATED = 100


def validate(value: Any, struct: type[T]) -> T:
    """`value` as a `struct`, all of it in normal form. Raises: ValidationFailed with its faults, each with its JSON
    pointer."""
    try:
        found = msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        first = Fault(code="invalid", detail=_sentence(str(error)), pointer="#")
        raise ValidationFailed.of_faults(list(_struct_faults(value, struct, "#")) or [first]) from None
    faults: list[Fault] = []
    _normalize(found, struct, "#", faults)
    if faults:
        raise ValidationFailed.of_faults(faults)
    return found


def _struct_faults(value: Any, struct: type[msgspec.Struct], pointer: str) -> Iterator[Fault]:
    if not isinstance(value, dict):
        yield Fault(code="type", detail="must be an object", pointer=pointer)
        return
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    unknown = value.keys() - fields.keys()
    if len(unknown) > _MOST_UNKNOWN:
        yield Fault(code="length", detail=f"has {len(unknown)} members that are no fields", pointer=pointer)
        unknown = set()
    for name in sorted(fields.keys() | unknown):
        at = f"{pointer}/" + name[:_MOST_REPEATED].replace("~", "~0").replace("/", "~1")
        if name in unknown:
            yield Fault(code="unknown", detail="is not a field of this resource", pointer=at)
        elif name in value:
            yield from _field_faults(value[name], fields[name].type, at)
        elif fields[name].required:
            yield Fault(code="required", detail="is required", pointer=at)


def _field_faults(value: Any, kind: Any, pointer: str) -> Iterator[Fault]:
    parts = list(_parts(kind))
    struct = next((part for part in parts if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)
    items = next((get_args(part)[0] for part in parts if get_origin(part) is list), None)
    if struct and isinstance(value, dict):
        yield from _struct_faults(value, struct, pointer)
        return
    try:
        found = msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        # A list of a wrong length is told of before its items, of which there may be any number.
        if items and isinstance(value, list) and path:
            for i, item in enumerate(value):
                yield from _field_faults(item, items, f"{pointer}/{i}")
            return
        tail = "".join("/" + part for part in re.findall(r"[^.\[\]`]+", path))
        yield Fault(code=_code(message), detail=_detail(message, parts), pointer=pointer + tail[:_MOST_REPEATED])
        return
    faults: list[Fault] = []
    _normalize(found, kind, pointer, faults)
    yield from faults


def _normalize(value: Any, kind: Any, pointer: str, faults: list[Fault]) -> Any:
    """`value`, which msgspec found to be a `kind`, with all that is in it in normal form; what has none is a fault."""
    if value is None or value is msgspec.UNSET:
        return value
    if isinstance(value, msgspec.Struct):
        for name, encoded, below in _fields_with_rules(type(value)):
            setattr(value, name, _normalize(getattr(value, name), below, f"{pointer}/{encoded}", faults))
        return value
    if isinstance(value, list):
        items = next((get_args(part)[0] for part in _parts(kind) if get_origin(part) is list), Any)
        return [_normalize(item, items, f"{pointer}/{i}", faults) for i, item in enumerate(value)]
    rule = _rule(kind)
    try:
        return rule(value) if rule else value
    except InvalidValue as invalid:
        faults.append(Fault(code=invalid.code, detail=invalid.detail, pointer=pointer))
        return value


@cache
def _fields_with_rules(struct: type[msgspec.Struct]) -> list[tuple[str, str, Any]]:
    """Of a struct: the name, the name in JSON, and the type of each field that has a rule, or holds what has one."""

    def has_rules(kind: Any) -> bool:
        for part in _parts(kind):
            if get_origin(part) is list and has_rules(get_args(part)[0]):
                return True
            if isinstance(part, type) and issubclass(part, msgspec.Struct) and _fields_with_rules(part):
                return True
        return _rule(kind) is not None

    fields = msgspec.structs.fields(struct)
    return [(field.name, field.encode_name, field.type) for field in fields if has_rules(field.type)]


@cache
def _rule(kind: Any) -> Callable[[Any], Any] | None:
    """The function that has the last word about values of a type."""
    metas = (part for part in _parts(kind) if isinstance(part, msgspec.Meta))
    return next((meta.extra["normalize"] for meta in metas if meta.extra and "normalize" in meta.extra), None)


def _parts(kind: Any) -> Iterator[Any]:
    """A type, and what it is made of down to the items of a list: for `Name | UnsetType` also `Name`, its Meta, ..."""
    yield kind
    if get_origin(kind) is not list:
        for part in get_args(kind):
            yield from _parts(part)


def _detail(message: str, parts: list[Any]) -> str:
    """In words. Of a broken pattern its description is told, since the pattern itself helps nobody."""
    described = [part.description for part in parts if isinstance(part, msgspec.Meta) and part.description]
    if described and any(part in message for part in ("matching regex", "RFC3339", "timezone component")):
        return f"must be: {described[0]}"
    sentence = _sentence(message)
    return sentence if len(sentence) <= _MOST_REPEATED else sentence[:_MOST_REPEATED] + "…"


_CODES: tuple[tuple[str, str], ...] = (
    ("Expected `str` of length", "length"),
    ("Expected `array` of length", "length"),
    ("matching regex", "pattern"),
    ("timezone component", "format"),
    (">=", "range"),
    ("<=", "range"),
    ("Invalid enum value", "choice"),
    ("Invalid", "format"),
    ("got `", "type"),
)


def _code(message: str) -> str:
    return next((code for part, code in _CODES if part in message), "invalid")


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:].replace("`", "")
