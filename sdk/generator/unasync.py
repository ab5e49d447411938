"""The blocking form of a module that is written with `async`: the same code without the words that make it wait."""

import io
import re
import tokenize

_WORDS = {
    "StopAsyncIteration": "StopIteration",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
    "aread": "read",
    "aiter_bytes": "iter_bytes",
    "aiter_lines": "iter_lines",
    "aiter_raw": "iter_raw",
    "asyncio": "time",
    "asynccontextmanager": "contextmanager",
    "AbstractAsyncContextManager": "AbstractContextManager",
    "anext": "next",
    "aiter": "iter",
}
_DROPPED = {"async", "await"}


def blocking(source: str) -> str:
    """Every `async` and `await` is left out, `AsyncThing` becomes `Thing`, and `_async` becomes `_sync`."""
    result, line, column = [], 1, 0
    lines = source.splitlines(keepends=True)
    tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    skip_space = False
    for token in tokens:
        (row, start), (end_row, end) = token.start, token.end
        between = _between(lines, (line, column), (row, start))
        result.append(between.lstrip(" ") if skip_space else between)
        skip_space = token.type == tokenize.NAME and token.string in _DROPPED
        if not skip_space:
            result.append(_word(token))
        line, column = end_row, end
    return "".join(result).replace("dues_client._async", "dues_client._sync")


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The text from one position (row from 1, column) to another, which has no token in it."""
    if start[0] == end[0]:
        return lines[start[0] - 1][start[1] : end[1]] if start[0] <= len(lines) else ""
    parts = [lines[start[0] - 1][start[1] :], *lines[start[0] : end[0] - 1]]
    return "".join(parts) + (lines[end[0] - 1][: end[1]] if end[0] <= len(lines) else "")


def _word(token: tokenize.TokenInfo) -> str:
    text = token.string
    if token.type == tokenize.NAME:
        return _WORDS.get(text, text[5:] if text.startswith("Async") else text)
    if token.type == tokenize.STRING:
        return re.sub(r"\basync |\bawait |\bAsync(?=[A-Z])", "", text)
    return text
