"""Server-side prepared statements for what recurs: PostgreSQL then parses and plans a statement once for each
connection instead of each time, which is half of what a short read costs.

Used only on connections of our own pool, and inside a transaction only where it is asked for. Switch it off
(`DB_PREPARE=false`) behind a proxy that pools transactions, where a connection does not stay the same.
"""

import itertools
import re
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

# A statement is prepared once it has been seen this often, so that rare shapes cost the server no memory.
_HOT = 3
# Most prepared statements a connection keeps; the least recently used goes first.
_KEPT = 128
_SEEN_BOUND = 10_000

_PARAMETER = re.compile(r"%\((\w+)\)s")

_seen: Counter[str] = Counter()
_numbers = itertools.count(1)


@lru_cache(maxsize=2048)
def _numbered(sql: str) -> tuple[str, str]:
    """`… = %(id)s` as the text to prepare, `… = $1`, and the arguments to execute it with, `(%(id)s)`."""
    names = list(dict.fromkeys(_PARAMETER.findall(sql)))
    text = _PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", sql).replace("%%", "%")
    return text, "(" + ", ".join(f"%({name})s" for name in names) + ")" if names else ""


Statement = tuple[str, Mapping[str, Any]]
Kept = OrderedDict[str, str]


def execute(cursor: Any, kept: Kept, statements: Sequence[Statement], first: str = "") -> None:
    """Run statements, in one message and so in one round trip, on a cursor whose connection has prepared those in
    `kept` (a statement's text to its call). The cursor has the answer to the last. `first` is run before all of them.
    """
    fresh: Kept = OrderedDict()
    parts: list[Statement] = [(first, {})] if first else []
    for sql, values in statements:
        if call := kept.get(sql):
            kept.move_to_end(sql)
            parts.append((call, values))
        elif call := fresh.get(sql):
            parts.append((call, values))
        elif not _is_hot(sql):
            parts.append((sql, values))
        else:
            # A name is never used twice, so that a failure after it was prepared cannot confuse two statements.
            name = f"dues_{next(_numbers)}"
            text, arguments = _numbered(sql)
            call = fresh[sql] = f"execute {name}{arguments}"
            escaped = text.replace("%", "%%")
            parts.append((f"prepare {name} as {escaped}; {call}", values))
    if fresh:
        parts[:0] = [
            (f"deallocate {oldest}", {}) for oldest in _make_room(kept, len(fresh), {sql for sql, _ in statements})
        ]
    send(cursor, parts)
    kept.update(fresh)


def send(cursor: Any, statements: Sequence[Statement]) -> None:
    """Run statements as they are, in one message."""
    if len(statements) == 1:
        cursor.execute(*statements[0])
    else:
        cursor.execute(b"; ".join([cursor.mogrify(*statement) for statement in statements]))


def _is_hot(sql: str) -> bool:
    """Whether a statement recurs; this is one time more."""
    if len(_seen) > _SEEN_BOUND:
        _seen.clear()
    _seen[sql] += 1
    return _seen[sql] >= _HOT


def _make_room(kept: Kept, count: int, used: Collection[str]) -> list[str]:
    """The names of the least recently used, which are no longer kept, so that `count` more can be; none of `used`."""
    least = [sql for sql in kept if sql not in used][: max(0, len(kept) + count - _KEPT)]
    return [kept.pop(sql).removeprefix("execute ").partition("(")[0] for sql in least]
