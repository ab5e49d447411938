"""Which passwords are refused: those that are tried first.

Their length is bounded where bodies are validated. What is left is what NIST SP 800-63B asks for: a password is not
among the most common ones, does not say little but the name or the e-mail of whoever chooses it, and is not a few
characters over and over.
"""

import re
import unicodedata
from functools import cache
from pathlib import Path

_LIST = Path(__file__).parent / "common_passwords.txt"
_FEWEST_DIFFERENT = 4
# A word that can be guessed is no password with so few characters added.
_TOO_FEW_MORE = 4
# Names and parts of names shorter than this are found in good passwords by chance.
_SHORTEST_WORD = 4


def weakness(password: str, *personal: str) -> str | None:
    """What is wrong with a password, in words that complete "the password …"; None where it may be taken.

    `personal` is what others know of whoever chooses it: the name, the e-mail.
    """
    plain = _plain(password)
    if len(set(plain)) < _FEWEST_DIFFERENT:
        return f"has fewer than {_FEWEST_DIFFERENT} different characters"
    if plain in _common():
        return "is among the passwords that are tried first"
    squeezed = _squeezed(plain)
    if any(word in squeezed and len(squeezed) - len(word) < _TOO_FEW_MORE for word in _words(personal)):
        return "says little but the name or the e-mail"
    return None


@cache
def _common() -> frozenset[str]:
    lines = _LIST.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if not line.startswith("# "))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold().strip()


def _squeezed(text: str) -> str:
    """Letters and digits alone, so that `ada.lovelace` and `Ada Lovelace` are one."""
    return re.sub(r"[\W_]+", "", _plain(text))


def _words(personal: tuple[str, ...]) -> set[str]:
    """Each text whole, and the part of an e-mail before the @."""
    parts = {_squeezed(part) for text in personal for part in (text, text.partition("@")[0])}
    return {part for part in parts if len(part) >= _SHORTEST_WORD}
