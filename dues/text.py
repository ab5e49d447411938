"""Text that people write: what one line of it may hold, and text of several lines. Every field of free text in a body
is of one of these types, with bounds of its own: `Annotated[OneLine, Meta(min_length=1, max_length=200)]`.

Names and descriptions end up on one line of a mail, a receipt or a table. A character that begins another line, or that
turns the direction of the text around it, would let a name pose as something else; and what shows nothing is no name.
"""

import re
from typing import Annotated

from msgspec import Meta

from dues.errors import InvalidValue

_LINE_BREAKS = r"\t\n\r"
_OTHER_CONTROLS = r"\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufff9-\ufffb"
# Embeddings, overrides and isolates (Unicode Bidirectional Algorithm, 2.1 to 2.4): what is printed is isolated, and one
# of these in a text could end that. The marks U+200E, U+200F and U+061C turn nothing else around, and are allowed.
_BIDI_CONTROLS = r"\u202a-\u202e\u2066-\u2069"
# As ranges of a character class, here and in PostgreSQL: Default_Ignorable_Code_Point of Unicode, which shows nothing
# by itself, and the blank Braille pattern.
INVISIBLE = (
    r"\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    r"\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)

_NOT_ON_A_LINE = re.compile(f"[{_LINE_BREAKS}{_OTHER_CONTROLS}{_BIDI_CONTROLS}]")
_NOT_IN_TEXT = re.compile(f"[{_OTHER_CONTROLS}{_BIDI_CONTROLS}]")
_VISIBLE = re.compile(rf"[^\s{INVISIBLE}]")
_INVISIBLE = re.compile(f"[{INVISIBLE}]")


def has_invisible(text: str) -> bool:
    """Whether a character of `text` shows nothing and takes no room."""
    return _INVISIBLE.search(text) is not None


def shows_something(text: str) -> bool:
    """Whether a character of `text` can be seen."""
    return _VISIBLE.search(text) is not None


def _one_line(text: str) -> str:
    return _checked(text, _NOT_ON_A_LINE, "must be one line of text without control characters")


def _paragraphs(text: str) -> str:
    return _checked(text, _NOT_IN_TEXT, "must be text without control characters other than line breaks and tabs")


def _checked(text: str, refused: re.Pattern[str], rule: str) -> str:
    if refused.search(text):
        raise InvalidValue("pattern", rule)
    if text and not shows_something(text):
        raise InvalidValue("pattern", "must have a character that can be seen")
    return text


OneLine = Annotated[str, Meta(description="one line of text", extra={"normalize": _one_line})]
Paragraphs = Annotated[str, Meta(description="text, of several lines if need be", extra={"normalize": _paragraphs})]
