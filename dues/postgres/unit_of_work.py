"""The unit of work: a `transaction()`'s one connection, and what it has gathered to do around its commit (orm.py).

How statements are sent is here, too: several in one message, prepared where they recur (prepared.py).
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import Connection, Engine, event
from sqlalchemy.orm import Session
from sqlalchemy.pool import Pool

from dues.postgres import prepared

# Under this name the pool keeps what a connection has prepared, where it may.
_PREPARED = "prepared"
# And under this one, that a connection lay in the pool since it was last used.
_LAY_IDLE = "lay idle"


def watch(pool: Pool, *, prepare: bool) -> None:
    """Know of the connections of `pool` which have lain idle; and have them `prepare` what recurs."""
    event.listen(pool, "checkin", lambda _, entry: entry.info.update({_LAY_IDLE: True}))
    if prepare:
        event.listen(pool, "connect", lambda _, entry: entry.info.update({_PREPARED: OrderedDict()}))


def execute(
    cursor: Any,
    info: dict[Any, Any],
    statements: Sequence[prepared.Statement],
    *,
    prepare: bool,
    first: str = "",
) -> None:
    """Run statements in one message. `info` is what the pool keeps with the connection; `first` is run before them as
    it is."""
    kept = info.get(_PREPARED) if prepare else None
    if kept is not None:
        prepared.execute(cursor, kept, statements, first)
    else:
        prepared.send(cursor, [(first, {}), *statements] if first else statements)


def first_row(cursor: Any) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = cursor.fetchone()
    return row


present_work: "ContextVar[UnitOfWork | None]" = ContextVar("unit_of_work", default=None)


@event.listens_for(Engine, "before_cursor_execute")
def _before_statement(connection: Connection, *_: object) -> None:
    if work := present_work.get():
        work.before_statement(connection)


class UnitOfWork:
    """What one `transaction()` does, and has gathered to do around its commit.

    Its connection is taken for the first statement, with which BEGIN goes out in one message. The session, where one
    is used, works on the same connection: asking for one takes SQLAlchemy longer than a short statement takes.
    """

    def __init__(self, engine: Engine, session: Session | None) -> None:
        """`session` is the present context's, where it has one; one that is made later makes itself known."""
        self._engine, self.session = engine, session
        self.tags: set[str] = set()
        self.events: list[Any] = []
        self.counts: Counter[Any] = Counter()
        self.after_commit: list[Callable[[], None]] = []
        self._taken: tuple[Connection, Any, dict[Any, Any]] | None = None
        self._has_begun = False
        self.is_over = False
        self._later: list[prepared.Statement] = []

    def connection(self) -> Connection:
        """SQLAlchemy's, which neither begins nor commits anything: it is begun already."""
        if not self._has_begun:
            self._run([], hot=True)
        return self._take()[0]

    def _take(self) -> tuple[Connection, Any, dict[Any, Any]]:
        """The connection, as SQLAlchemy and as the driver has it, and what the pool keeps with it."""
        if self._taken is None:
            connection = self._engine.connect()
            pooled = connection.connection
            driver: Any = pooled.dbapi_connection
            driver.autocommit = True
            self._taken = connection, driver, pooled.info
        return self._taken

    def run_later(self, sql: str, values: Mapping[str, Any]) -> None:
        # What the session still has to write was written before.
        self.flush_session()
        self._later.append((sql, values))

    def before_statement(self, connection: Connection) -> None:
        """SQLAlchemy is about to run a statement of its own: what was to run before it does."""
        if self._later and self._taken and connection is self._taken[0]:
            self._run([], hot=True)

    def fetch_row(self, sql: str, values: Mapping[str, Any], *, hot: bool) -> tuple[Any, ...] | None:
        self.flush_session()
        return self._run([(sql, values)], hot=hot)

    def flush(self) -> None:
        """Have PostgreSQL know all that was written."""
        self.flush_session()
        if self._later:
            self._run([], hot=True)

    def flush_session(self) -> None:
        if self.session:
            self.session.flush()

    def _run(self, statements: list[prepared.Statement], *, hot: bool) -> tuple[Any, ...] | None:
        later, self._later = self._later, []
        message, returns = [*later, *statements], bool(statements)
        if self._has_begun:
            return self._send(message, returns, prepare=hot or bool(later))
        self._has_begun = True
        while True:
            try:
                return self._send(message, returns, prepare=hot or bool(later), first="begin")
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                if not self._replace():
                    raise

    def _send(
        self, message: list[prepared.Statement], returns: bool, *, prepare: bool, first: str = ""
    ) -> tuple[Any, ...] | None:
        _, driver, info = self._take()
        with driver.cursor() as cursor:
            execute(cursor, info, message, prepare=prepare, first=first)
            return first_row(cursor) if returns else None

    def _replace(self) -> bool:
        """Take another connection where the server had closed this one while it lay idle."""
        connection, driver, info = self._take()
        if not driver.closed or _LAY_IDLE not in info:
            return False
        connection.invalidate()
        connection.close()
        self._taken = None
        return True

    def commit(self) -> None:
        """Raises: psycopg2.Error."""
        if self.session and not self.session.is_active:
            raise RuntimeError("the session of this transaction() has failed: there is nothing whole to commit")
        if self._has_begun:
            self._end("commit")
        self.is_over = True
        if self.session:
            self.session.commit()

    def rollback(self) -> None:
        """Never fails: a connection that cannot be brought back to order is closed."""
        if self._taken and self._taken[1].closed:
            # Else the session would try to roll it back.
            self._taken[0].invalidate()
            self._has_begun = False
        self.is_over = True
        if self.session:
            self.session.rollback()
        if self._taken and self._has_begun:
            with suppress(psycopg2.Error):
                self._end("rollback")

    def _end(self, word: str) -> None:
        with self._take()[1].cursor() as cursor:
            cursor.execute(word)
            if cursor.statusmessage != word.upper():
                # PostgreSQL answers a COMMIT so, without an error, where a statement had failed and nobody minded.
                raise RuntimeError("a statement of this transaction() had failed: it was rolled back")
        self._has_begun = False

    def release(self) -> None:
        """Give the connection back to the pool."""
        if self._taken is None:
            return
        connection, driver, _ = self._taken
        if driver.get_transaction_status() == TRANSACTION_STATUS_IDLE:
            driver.autocommit = False
        else:
            connection.invalidate()
        connection.close()
