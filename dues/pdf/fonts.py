"""Which font sets which characters, and where the fonts' files are.

All fonts are Noto's, from packages that are pinned in requirements.txt. An operator puts further ones into FONTS_DIR:
they are used for whatever these lack.

A font is asked only for the characters listed here, though it may know others: letters are shaped together with the
marks on them, and a font that knows the mark alone would lose the letter.
"""

from bisect import bisect_right
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import manimgx_fonts
import manimgx_fonts_cjk

# Ranges of code points, in hexadecimal. What stands first is asked first.
_CHARACTERS = {
    "Noto Sans": "20-52F 1AB0-1ACE 1C80-1C88 1D00-1FFE 2000-209C 20A0-20C0 2100-215F 2183-2184 2189 2212 25CC"
    " 2C60-2C7F 2DE0-2E5D A640-A69F A700-A7FF AB30-AB6B FB00-FB06 FE20-FE2F FFFC-FFFD 10780-107BA 1DF00-1DF1E",
    "Noto Sans Armenian": "530-58F FB13-FB17",
    "Noto Sans Hebrew": "590-5FF FB1D-FB4F",
    "Noto Sans Arabic": "600-6FF 750-77F 870-8FF FB50-FDFF FE70-FEFC",
    "Noto Sans Devanagari": "900-97F A830-A839 A8E0-A8FF",
    "Noto Sans Bengali": "980-9FF",
    "Noto Sans Gurmukhi": "A00-A7F",
    "Noto Sans Gujarati": "A80-AFF",
    "Noto Sans Oriya": "B00-B7F",
    "Noto Sans Tamil": "B80-BFF",
    "Noto Sans Telugu": "C00-C7F",
    "Noto Sans Kannada": "C80-CFF",
    "Noto Sans Malayalam": "D00-D7F",
    "Noto Sans Sinhala": "D80-DFF 111E1-111F4",
    "Noto Sans Thai": "E00-E7F",
    "Noto Sans Lao": "E80-EFF",
    "Noto Sans Myanmar": "1000-109F A9E0-A9FF AA60-AA7F",
    "Noto Sans Georgian": "10A0-10FF 1C90-1CBF 2D00-2D2F",
    "Noto Sans Ethiopic": "1200-139F 2D80-2DDF AB00-AB2F",
    "Noto Sans Khmer": "1780-17FF 19E0-19FF",
    "Noto Emoji": "23 2A 30-39 203C 2049 2122 2139 2194-2199 21A9-21AA 231A-231B 2328 23CF 23E9-23FA 24C2 25AA-25AB"
    " 25B6 25C0 25FB-25FE 2600-27BF 2934-2935 2B05-2B55 3030 303D 3297 3299 1F000-1F0FF 1F170-1F1FF 1F300-1FAFF",
    "Noto Sans Symbols": "2160-2188 2190-23E8 2460-24FF 2600-27BF 2921-2922 1F100-1F1AC 1F546-1F54F 1F700-1F773",
}
# Chinese, Japanese and Korean share characters that each writes in a way of its own.
_EAST_ASIAN = (
    "1100-11FF 2000-2BFF 2E80-A4CF A960-A97F AC00-D7FF F900-FAFF FE30-FE6F FF00-FFEF "
    "1B000-1B16F 1F200-1F2FF 20000-3FFFF"
)
_REGIONS = {"JP": "JP", "CN": "SC", "SG": "SC", "TW": "TC", "HK": "HK", "MO": "HK", "KR": "KR"}
_KANA, _HANGUL = ((0x3040, 0x30FF), (0xFF66, 0xFF9F)), ((0x1100, 0x11FF), (0xAC00, 0xD7FF))


# Asked last and for anything, since characters that no font has are reported only if some font was asked for them. It
# knows no mark that could take the place of a letter.
_LAST = "Noto Sans Georgian"


class Font(NamedTuple):
    """A family, and a regular expression of the characters that it is to set; none: whatever it has."""

    name: str
    covers: str | None


def folders(fonts_dir: str) -> list[str]:
    """Where the files are; `fonts_dir` is the operator's folder, or empty."""
    packaged = [str(Path(str(package.__file__)).parent) for package in (manimgx_fonts, manimgx_fonts_cjk)]
    return [*packaged, *([fonts_dir] if fonts_dir else [])]


def fonts_for(characters: Iterable[str], country: str = "") -> list[Font]:
    """The fonts that these characters need, in the order in which they are asked. `country` (ISO 3166) says whose way
    of writing Chinese characters is meant, where the characters themselves do not."""
    codes = {ord(character) for character in characters}
    wanted = {family for family in _CHARACTERS if any(_has(_CHARACTERS[family], code) for code in codes)}
    found = [Font(family, _covers(listed)) for family, listed in _CHARACTERS.items() if family in wanted]
    if any(code > 0x2000 and _has(_EAST_ASIAN, code) for code in codes):
        found.append(Font(f"Noto Sans CJK {_region(codes, country)}", _covers(_EAST_ASIAN)))
    return [*found, Font(_LAST, None)]


def _region(codes: set[int], country: str) -> str:
    if any(first <= code <= last for code in codes for first, last in _KANA):
        return "JP"
    if any(first <= code <= last for code in codes for first, last in _HANGUL):
        return "KR"
    return _REGIONS.get(country, "SC")


@cache
def _ranges(listed: str) -> tuple[list[int], list[int]]:
    pairs = [pair.partition("-") for pair in listed.split()]
    return [int(first, 16) for first, _, _ in pairs], [int(last or first, 16) for first, _, last in pairs]


def _has(listed: str, code: int) -> bool:
    firsts, lasts = _ranges(listed)
    place = bisect_right(firsts, code) - 1
    return place >= 0 and code <= lasts[place]


@cache
def _covers(listed: str) -> str:
    firsts, lasts = _ranges(listed)
    return "[" + "".join(rf"\u{{{first:x}}}-\u{{{last:x}}}" for first, last in zip(firsts, lasts, strict=True)) + "]"
