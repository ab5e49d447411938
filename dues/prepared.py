"""Server-side prepared statements for what recurs: PostgreSQL then parses and plans a statement once for each
connection instead of each time, which is half of what a short read costs.

Used only on connections of our own pool, and inside a transaction only where it is asked for. Switch it off
(`DB_PREPARE=false`) behind a proxy that pools transactions, where a connection does not stay the same.
"""

import itertools
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
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


def execute(cursor: Any, kept: "OrderedDict[str, str]", sql: str, params: Mapping[str, Any]) -> None:
    """Run `sql` on a cursor whose connection has prepared the statements in `kept` (text to name).

    One round trip in any case: what is prepared now is executed in the same message.
    """
    name = kept.get(sql)
    if name is not None:
        kept.move_to_end(sql)
        cursor.execute(f"execute {name}{_numbered(sql)[1]}", params)
        return
    if len(_seen) > _SEEN_BOUND:
        _seen.clear()
    _seen[sql] += 1
    if _seen[sql] < _HOT:
        cursor.execute(sql, params)
        return
    text, arguments = _numbered(sql)
    forget = ""
    if len(kept) >= _KEPT:
        _, oldest = kept.popitem(last=False)
        forget = f"deallocate {oldest}; "
    # A name is never used twice, so that a failure after it was prepared cannot confuse two statements.
    name = f"dues_{next(_numbers)}"
    escaped = text.replace("%", "%%")
    cursor.execute(f"{forget}prepare {name} as {escaped}; execute {name}{arguments}", params)
    kept[sql] = name
