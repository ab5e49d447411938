"""One connection to PostgreSQL, and the one way to run statements on it: several in one message, prepared on the server
where they recur. PostgreSQL then parses and plans a statement once for each connection instead of each time, which is
half of what a short read costs. (`DB_PREPARE=false` turns it off: sessions.py.)
"""

import itertools
import re
import time
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import psycopg2

from dues.postgres.sqlstate import failure_of
from dues.postgres.statement_stats import count_message
from dues.postgres.watchdog import watchdog

Row = tuple[Any, ...]
Statement = tuple[str, Mapping[str, Any]]

# A statement is prepared once it has been seen this often, so that rare shapes cost the server no memory.
_HOT = 3
# Most prepared statements a connection keeps; the least recently used goes first.
_KEPT = 128
_SEEN_BOUND = 10_000
# How notices begin that are no warnings, where the server speaks English. Where it does not, each counts as one.
_LESS_THAN_WARNINGS = ("NOTICE:", "INFO:", "LOG:", "DEBUG:")

# A value's place in a statement.
PARAMETER = re.compile(r"%\((\w+)\)s")

# How often each was seen, by its hash: clients make up shapes as they like, and ten thousand texts would be 25 MB.
_seen: Counter[int] = Counter()
_numbers = itertools.count(1)


class Connection:
    """`driver` is psycopg2's connection, in autocommit mode, whose server lets a statement run for `longest_s`.

    is_useless: what the server said of the last statement ends the connection. has_lain_idle: it was given back to the
    pool since it was opened, so the server may have ended it meanwhile.
    """

    __slots__ = ("_prepared", "driver", "has_lain_idle", "is_useless", "longest_s")

    def __init__(self, driver: Any, *, prepare: bool, longest_s: float) -> None:
        self.driver, self.longest_s = driver, longest_s
        self.is_useless = self.has_lain_idle = False
        # A statement's text to the call of it.
        self._prepared: OrderedDict[str, str] | None = OrderedDict() if prepare else None

    @property
    def is_read_only(self) -> bool:
        """Whether the server has said of itself, since PostgreSQL 14 unasked, that it takes no writes here."""
        said = self.driver.get_parameter_status
        return "on" in (said("default_transaction_read_only"), said("in_hot_standby"))

    def execute(self, statements: Sequence[Statement], *, first: str = "", prepare: bool = True) -> Row | None:
        """Run statements in one message, and so in one round trip: the first row of the last one. `first` is run
        before all of them as it is. Raises: psycopg2.Error."""
        with _Watched(self, statements), self.driver.cursor() as cursor:
            self.send(cursor, statements, first=first, prepare=prepare)
            row: Row | None = cursor.fetchone() if cursor.description is not None else None
            return row

    def end(self, word: str, statements: Sequence[Statement] = ()) -> str:
        """Send COMMIT or ROLLBACK, in one message behind `statements`: rows that they lock are not locked for a round
        trip more. Returns: what PostgreSQL has done. Raises: psycopg2.Error."""
        del self.driver.notices[:]
        with _Watched(self, statements, word), self.driver.cursor() as cursor:
            self.send(cursor, statements, last=word)
            return str(cursor.statusmessage)

    @property
    def warnings(self) -> list[str]:
        """What PostgreSQL has warned of beside its answer to the last `end()`. Triggers may tell lesser things."""
        return [notice for notice in self.driver.notices if not notice.startswith(_LESS_THAN_WARNINGS)]

    def send(
        self, cursor: Any, statements: Sequence[Statement], *, first: str = "", last: str = "", prepare: bool = True
    ) -> None:
        """The same on a cursor, which then has the answer to the last."""
        before: list[Statement] = [(first, {})] if first else []
        after: list[Statement] = [(last, {})] if last else []
        kept = self._prepared if prepare else None
        if kept is None:
            _send(cursor, [*before, *statements, *after])
            return
        fresh: dict[str, str] = {}
        calls = [(_call(sql, kept, fresh), values) for sql, values in statements]
        if fresh:
            used = {sql for sql, _ in statements}
            before = [(f"deallocate {name}", {}) for name in _make_room(kept, len(fresh), used)] + before
            before += [(_preparation(sql, call), {}) for sql, call in fresh.items()]
            # Whatever becomes of the calls, all are prepared before the first of them: one that fails each time would
            # else be prepared anew each time, and never forgotten. (Where PostgreSQL refuses to prepare one, it says
            # at the next call that there is no such thing; the connection is then made anew.)
            kept.update(fresh)
        _send(cursor, before + calls + after)


class _Watched:
    """While statements run: the network is watched, time is taken, and an error tells whether the connection is lost.
    A class, since each message enters one, and a generator's frame costs several times as much."""

    __slots__ = ("_connection", "_end", "_started", "_statements")

    def __init__(self, connection: Connection, statements: Sequence[Statement], end: str = "") -> None:
        self._connection, self._statements, self._end = connection, statements, end

    def __enter__(self) -> None:
        self._started = time.perf_counter()
        watchdog.watch(self._connection.driver, self._connection.longest_s)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        connection = self._connection
        watchdog.done(connection.driver)
        if isinstance(error, psycopg2.Error):
            failure = failure_of(error)
            connection.is_useless = bool(connection.driver.closed) or (failure is not None and failure.drops)
        count_message([sql for sql, _ in self._statements], time.perf_counter() - self._started, self._end)


def _call(sql: str, kept: OrderedDict[str, str], fresh: dict[str, str]) -> str:
    """A statement as it is, or the call of it: of one that was prepared before, or that is `fresh` in this message."""
    if call := kept.get(sql):
        kept.move_to_end(sql)
        return call
    if call := fresh.get(sql):
        return call
    if not _is_hot(sql):
        return sql
    # A name is never used twice, so that two statements cannot be confused.
    call = fresh[sql] = f"execute dues_{next(_numbers)}{_numbered(sql)[1]}"
    return call


def _name(call: str) -> str:
    return call.removeprefix("execute ").partition("(")[0]


def _preparation(sql: str, call: str) -> str:
    return f"prepare {_name(call)} as {_numbered(sql)[0].replace('%', '%%')}"


@lru_cache(maxsize=2048)
def _numbered(sql: str) -> tuple[str, str]:
    """`… = %(id)s` as the text to prepare, `… = $1`, and the arguments to execute it with, `(%(id)s)`."""
    names = list(dict.fromkeys(PARAMETER.findall(sql)))
    text = PARAMETER.sub(lambda match: f"${names.index(match[1]) + 1}", sql).replace("%%", "%")
    return text, "(" + ", ".join(f"%({name})s" for name in names) + ")" if names else ""


def _is_hot(sql: str) -> bool:
    """Whether a statement recurs; this is one time more."""
    if len(_seen) > _SEEN_BOUND:
        _seen.clear()
    _seen[hash(sql)] += 1
    return _seen[hash(sql)] >= _HOT


def _make_room(kept: OrderedDict[str, str], count: int, used: Collection[str]) -> list[str]:
    """The names of the least recently used, which are no longer kept, so that `count` more can be; none of `used`."""
    least = [sql for sql in kept if sql not in used][: max(0, len(kept) + count - _KEPT)]
    return [_name(kept.pop(sql)) for sql in least]


def _send(cursor: Any, statements: Sequence[Statement]) -> None:
    if len(statements) == 1:
        cursor.execute(*statements[0])
    else:
        cursor.execute(b"; ".join([cursor.mogrify(*statement) for statement in statements]))
