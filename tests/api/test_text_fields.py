"""Every field of text in every body: of a type that says what may stand there, and refusing what may not.

The fields are found in the routes' declarations, so that a new one cannot be forgotten.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from types import NoneType
from typing import Any, get_args, get_origin

import msgspec
import pytest

from api.app import MODULES
from dues.accounts.codes import Code
from dues.accounts.fields import Password, TypedEmail, TypedPassword
from dues.errors import ValidationFailed
from dues.text import OneLine, Paragraphs
from dues.validation import validate
from dues.webhooks.endpoints import Url

pytestmark = pytest.mark.unit

# What a text without a pattern may be. Each of the others than the first two has tests of its own.
KINDS = {
    "one line": OneLine,
    "paragraphs": Paragraphs,
    "password": Password,
    "typed password": TypedPassword,
    "typed email": TypedEmail,
    "url": Url,
    "code": Code,
}

CONTROLS = [chr(code) for code in (*range(32), *range(0x7F, 0xA0)) if chr(code) not in "\t\n\r"]
BIDI = [*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))]
NEVER = [*CONTROLS[1:], *BIDI, "\u2028", "\u2029", "\ufff9"]
INVISIBLE = [" ", "\u00a0", "\u3000", "\u200b", "\u200d\u200c", "\u00ad", "\u2060", "\ufeff", "\u115f\u1160", "\u3164"]
INVISIBLE += ["\uffa0", "\u2800", "\ufe0f", "\U000e0067\U000e007f", "\u180e", "\u200b \u3164", "\u061c\u200e"]
TAKEN = [
    "é",
    "e\u0301",
    "山田",
    "\u200fמתנה\u200f",
    "\u0645\u06cc\u200c\u062e",
    "👩\u200d🚒",
    "☕\ufe0f",
    "\U0001f3f4\U000e0067\U000e007f",
    "a  b",
]


@dataclass(frozen=True)
class Field:
    """A text in a body. `wrapped` puts a value where it belongs."""

    struct: type[msgspec.Struct]
    path: tuple[str, ...]
    kind: Any

    def __str__(self) -> str:
        return f"{self.struct.__name__}.{'.'.join(self.path)}"

    def faults(self, text: str) -> list[str]:
        """The codes of what is wrong with the field when it is `text`."""
        value: Any = text
        for name in reversed(self.path):
            value = [value] if name == "0" else {name: value}
        try:
            validate(value, self.struct)
        except ValidationFailed as refused:
            return [fault.code for fault in refused.errors if fault.pointer == f"#/{'/'.join(self.path)}"]
        return []


def texts(struct: type[msgspec.Struct], kind: Any, path: tuple[str, ...]) -> Iterator[Field]:
    """The texts in a value of `kind`, which stands at `path` in `struct`."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        for field in msgspec.structs.fields(kind):
            yield from texts(struct, field.type, (*path, field.encode_name))
    elif get_origin(kind) is list:
        yield from texts(struct, get_args(kind)[0], (*path, "0"))
    elif kind is str or (hasattr(kind, "__metadata__") and kind.__origin__ is str):
        yield Field(struct, path, kind)
    elif hasattr(kind, "__metadata__"):
        yield from texts(struct, kind.__origin__, path)
    else:
        for part in get_args(kind):
            if not isinstance(part, str) and part not in (NoneType, msgspec.UnsetType):
                yield from texts(struct, part, path)


def kind_of(field: Field) -> str | None:
    metas = getattr(field.kind, "__metadata__", ())
    if any(meta.pattern for meta in metas):
        return "pattern"
    return next((name for name, kind in KINDS.items() if any(meta is get_args(kind)[1] for meta in metas)), None)


STRUCTS = {struct for module in MODULES for route in module.all for struct in route.bodies}
FIELDS = sorted((field for struct in STRUCTS for field in texts(struct, struct, ())), key=str)
LINES = [field for field in FIELDS if kind_of(field) == "one line"]
PARAGRAPHS = [field for field in FIELDS if kind_of(field) == "paragraphs"]


def test_the_fields_are_found() -> None:
    found = {str(field) for field in FIELDS}
    assert {"NewStore.name", "NewPayment.description", "NewAddress.line2", "NewToken.name", "NewUser.email"} <= found
    assert len(LINES) > 15
    assert PARAGRAPHS


def test_a_text_is_of_a_type_that_says_what_may_stand_there() -> None:
    unsaid = [str(field) for field in FIELDS if not kind_of(field)]
    assert not unsaid, "use OneLine or Paragraphs of dues/text.py, or give its type a pattern"


@pytest.mark.parametrize("field", [*LINES, *PARAGRAPHS], ids=str)
def test_free_text_has_no_controls_and_can_be_seen(field: Field) -> None:
    for character in NEVER:
        assert field.faults(f"a{character}b") == ["pattern"], repr(character)
    for text in INVISIBLE:
        assert field.faults(text) == ["pattern"], repr(text)
    for text in TAKEN:
        assert field.faults(text) == [], repr(text)


def test_one_line_is_one_line() -> None:
    for field in LINES:
        for text in ("a\nb", "a\r\nb", "a\tb", "a\n", "\n"):
            assert field.faults(text) == ["pattern"], f"{field} {text!r}"


def test_paragraphs_have_line_breaks() -> None:
    for field in PARAGRAPHS:
        assert field.faults("a\n\n\tb\r\nc\n") == [], str(field)
        assert field.faults(" \n\t") == ["pattern"], str(field)
