"""Setting any text in a PDF: which font has its letters, how wide it is, where its lines break.

The fonts every PDF reader has know western European letters and keep a receipt at 3 kB. For other alphabets DejaVu Sans
is embedded; Chinese, Japanese and Korean are left to the reader's own fonts. What is written from right to left or
joins its letters (Hebrew, Arabic, Devanagari, …) needs a shaping engine: `printable()` says no, and the caller prints
something else.
"""

import unicodedata
from functools import cache, cached_property
from itertools import groupby
from pathlib import Path

from reportlab import rl_config
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.cidfonts import UnicodeCIDFont
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

# PDF holds bytes as they are; writing them as text costs a fifth of the size and of the time. Here, because everything
# that is printed is typeset here.
rl_config.useA85 = 0

_FONTS = Path(__file__).parent / "fonts"
_WESTERN = {False: "Helvetica", True: "Helvetica-Bold"}
_WIDE = {False: "DejaVuSans", True: "DejaVuSans-Bold"}
_KOREAN, _JAPANESE, _CHINESE = "HYGothic-Medium", "HeiseiKakuGo-W5", "STSong-Light"

# Without a glyph these are left out: pictures, and what only changes how its neighbours look.
_ORNAMENTS = ("So", "Sk", "Cf", "Cc", "Cn", "Co", "Mn", "Me")


def printable(text: str) -> str | None:
    """`text` in one line as it can be printed, or None where it cannot or nothing would be left."""
    kept = [c for c in unicodedata.normalize("NFC", text) if c.isspace() or not _is_ornament(c)]
    line = " ".join("".join(kept).split())
    if _is_western(line):
        return line or None
    if any(_is_right_to_left(c) or not (ord(c) in _glyphs(_WIDE[False]) or _is_east_asian(c)) for c in line):
        return None
    return line


def width(text: str, size: float, *, bold: bool = False) -> float:
    """In points."""
    return sum(pdfmetrics.stringWidth(run, font, size) for font, run in _runs(text, bold))


def draw(
    canvas: Canvas, x: float, y: float, text: str, size: float, *, bold: bool = False, right: bool = False
) -> None:
    """Write `text` (printable) with its left end, or with `right` its right end, at `x`."""
    if right:
        x -= width(text, size, bold=bold)
    for font, run in _runs(text, bold):
        canvas.setFont(font, size)
        canvas.drawString(x, y, run)
        x += pdfmetrics.stringWidth(run, font, size)


def wrap(text: str, size: float, limit: float, *, bold: bool = False) -> list[str]:
    """The lines of `text` in a column `limit` points wide; a word wider than the column is cut.

    Each character is measured once, with the fonts of the whole text, which are no narrower than those of a line of it:
    what a customer writes costs no more than its length.
    """
    lines, line, taken = [], "", 0.0
    fonts = _Fonts(text, bold)
    space = fonts.widths(" ", size)[0]
    for word in text.split(" "):
        widths = fonts.widths(word, size)
        if line and taken + space + sum(widths) <= limit:
            line, taken = f"{line} {word}", taken + space + sum(widths)
            continue
        if line:
            lines.append(line)
        *full, (line, taken) = _cut(word, widths, limit)
        lines += [part for part, _ in full]
    return [*lines, line]


def fit(text: str, size: float, limit: float, *, bold: bool = False) -> str:
    """`text`, or where it is wider than `limit` points as much of its beginning as fits, with an ellipsis."""
    widths = _Fonts(text, bold).widths(text, size)
    if sum(widths) <= limit:
        return text
    room = limit - sum(_Fonts(text + "…", bold).widths("…", size))
    return _cut(text, widths, room)[0][0].rstrip() + "…"


def _cut(word: str, widths: list[float], limit: float) -> list[tuple[str, float]]:
    """A word in parts of at most `limit`, and of one character at least, each with its width."""
    parts, start, taken = [], 0, 0.0
    for place, each in enumerate(widths):
        if place > start and taken + each > limit:
            parts.append((word[start:place], taken))
            start, taken = place, 0.0
        taken += each
    return [*parts, (word[start:], taken)]


def _runs(text: str, bold: bool) -> list[tuple[str, str]]:
    if _is_western(text):
        return [(_WESTERN[bold], text)]
    return [(font, "".join(run)) for font, run in groupby(text, _Fonts(text, bold).of)]


class _Fonts:
    """The fonts of one text: what script it is in is found out once for all its characters."""

    def __init__(self, text: str, bold: bool) -> None:
        self._text, self._bold = text, bold
        self._is_western = _is_western(text)

    def of(self, character: str) -> str:
        if self._is_western:
            return _WESTERN[self._bold]
        if ord(character) in _glyphs(_WIDE[self._bold]) or not _is_east_asian(character):
            return _WIDE[self._bold]
        return self._east_asian

    def widths(self, part: str, size: float) -> list[float]:
        """Of each character of a part of the text, in points."""
        return [pdfmetrics.stringWidth(c, self.of(c), size) for c in part]

    @cached_property
    def _east_asian(self) -> str:
        return _cid_font(self._text)


def _is_western(text: str) -> bool:
    try:
        text.encode("cp1252")
    except UnicodeEncodeError:
        return False
    return True


def _is_ornament(character: str) -> bool:
    without_glyph = not _is_western(character) and ord(character) not in _glyphs(_WIDE[False])
    return without_glyph and unicodedata.category(character) in _ORNAMENTS


def _is_right_to_left(character: str) -> bool:
    return unicodedata.bidirectional(character) in ("R", "AL", "AN")


def _is_east_asian(character: str) -> bool:
    return unicodedata.east_asian_width(character) in "WF" and ord(character) <= 0xFFFF


@cache
def _glyphs(font: str) -> frozenset[int]:
    loaded = TTFont(font, str(_FONTS / f"{font}.ttf"))
    pdfmetrics.registerFont(loaded)
    return frozenset(loaded.face.charToGlyph)


def _cid_font(text: str) -> str:
    names = [unicodedata.name(c, "") for c in text]
    if any(name.startswith("HANGUL") for name in names):
        return _registered(_KOREAN)
    if any(name.startswith(("HIRAGANA", "KATAKANA")) for name in names):
        return _registered(_JAPANESE)
    return _registered(_CHINESE)


@cache
def _registered(font: str) -> str:
    pdfmetrics.registerFont(UnicodeCIDFont(font))
    return font
