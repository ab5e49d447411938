"""Text in mails that needs care: words that people wrote, and amounts of money. Templates print both as they are, and
each renders itself safely in HTML and in plain text."""

import unicodedata
from dataclasses import dataclass

from markupsafe import Markup

from dues.mail.address import clean

# First strong isolate, and its end: the text in between is read in its own direction, and turns nothing around it.
_ISOLATE, _END = "\u2068", "\u2069"
_CONTROLS = dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)))
_RIGHT_TO_LEFT = ("R", "AL", "AN")


@dataclass(frozen=True, slots=True)
class Words:
    """A name or a description that somebody wrote: it stays within its line, its quotes and its direction, so that it
    can pose as nothing that the mail itself says."""

    text: str

    def __str__(self) -> str:
        line = self._line
        if any(unicodedata.bidirectional(character) in _RIGHT_TO_LEFT for character in line):
            return f"{_ISOLATE}{line}{_END}"
        return line

    def __html__(self) -> str:
        return Markup("<bdi>{}</bdi>").format(self._line)

    def __bool__(self) -> bool:
        return bool(self._line)

    @property
    def quoted(self) -> str:
        """For text: in quotes that only this can close."""
        inner = self.text.replace("“", '"').replace("”", '"')
        return f"“{Words(inner)}”"

    @property
    def _line(self) -> str:
        return clean(self.text.translate(_CONTROLS))


@dataclass(frozen=True, slots=True)
class Amount:
    """An amount of money as it is printed: it never breaks over two lines."""

    text: str

    def __str__(self) -> str:
        return self.text.replace(" ", "\N{NO-BREAK SPACE}")

    def __html__(self) -> str:
        return Markup('<span style="white-space:nowrap;">{}</span>').format(self.text)
