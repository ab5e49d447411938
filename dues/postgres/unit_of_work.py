"""The unit of work: a `transaction()`'s one connection, and what it has gathered to do around its commit
(transactions.py).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import Any

import psycopg2
from psycopg2.extensions import TRANSACTION_STATUS_IDLE
from sqlalchemy import Connection as SQLAlchemyConnection
from sqlalchemy import Engine, event
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

from dues.postgres.connection import Connection, Row, Statement
from dues.postgres.pool import connection_of, pool_of
from dues.postgres.sqlstate import Unconfirmed

present_work: "ContextVar[UnitOfWork | None]" = ContextVar("unit_of_work", default=None)


@event.listens_for(Engine, "before_cursor_execute")
def _before_statement(connection: SQLAlchemyConnection, *_: object) -> None:
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
        self.words: set[bytes] = set()
        self.events: list[Any] = []
        self.counts: Counter[Any] = Counter()
        # Of the cache, once it is known (dues/reads/freshness/writer.py).
        self.id_and_switch: Row | None = None
        self.after_commit: list[Callable[[], None]] = []
        self._pool = pool_of(engine)
        # The connection as the pool has it, as we do, and where it is asked for, as SQLAlchemy does.
        self._entry: ConnectionPoolEntry | None = None
        self._ours: Connection | None = None
        self._sqlalchemy: SQLAlchemyConnection | None = None
        self._has_begun = self.is_over = False
        self._later: list[Statement] = []
        # Of the statements whose answers can wait (later.py), in their order; None for those that do.
        self.answers: list[str | None] = []

    def connection(self) -> SQLAlchemyConnection:
        """SQLAlchemy's, which neither begins nor commits anything: it is begun already."""
        if not self._has_begun:
            self._run([])
        if self._sqlalchemy is None:
            assert self._entry
            self._sqlalchemy = self._pool.wrapped(self._engine, self._entry)
        return self._sqlalchemy

    def _connection(self) -> Connection:
        if self._ours is None:
            ours = self._take()
            if ours.is_read_only and ours.has_lain_idle:
                # Another may lead to where writes are taken now.
                self._drop()
                ours = self._take()
            self._ours = ours
        return self._ours

    def _take(self) -> Connection:
        self._entry = self._pool.take()
        return connection_of(self._entry.info)

    def _drop(self) -> None:
        """Close the connection, with which nothing is done yet, and be without one."""
        entry, self._entry, self._ours = self._entry, None, None
        if entry:
            entry.invalidate()
            self._pool.give_back(entry)

    def execute(self, sql: str, values: Mapping[str, Any], *, hot: bool = False, later: bool = False) -> Row | None:
        """Run a statement, prepared if it is `hot`, and return its first row; or run it `later`, in one message with
        the next whose answer is asked for, and return None."""
        # What the session still has to write was written before.
        if self.session:
            self.session.flush()
        if not later:
            return self._run([(sql, values)], prepare=hot)
        self._later.append((sql, values))
        return None

    def before_statement(self, connection: SQLAlchemyConnection) -> None:
        """SQLAlchemy is about to run a statement of its own: what was to run before it does."""
        if self._later and connection is self._sqlalchemy:
            self._run([])

    def flush(self) -> None:
        """Have PostgreSQL know all that was written."""
        self.flush_session()
        if self._later:
            self._run([])

    def flush_session(self) -> None:
        if self.session:
            self.session.flush()

    def _run(self, statements: list[Statement], *, prepare: bool = True) -> Row | None:
        later, self._later = self._later, []
        prepare = prepare or bool(later)
        message = [*later, *statements]
        if self._has_begun:
            return self._connection().execute(message, prepare=prepare)
        self._has_begun = True
        while True:
            try:
                return self._connection().execute(message, first="begin", prepare=prepare)
            except psycopg2.Error:
                if not self._replace():
                    raise

    def _replace(self) -> bool:
        """Take another connection where this one, with which nothing is done yet, had become useless while it lay
        idle."""
        connection = self._connection()
        if not (connection.is_useless and connection.has_lain_idle):
            return False
        self._drop()
        return True

    def commit(self) -> None:
        """What was left for later goes out with the COMMIT. Raises: psycopg2.Error."""
        self.flush_session()
        if self.session and not self.session.is_active:
            raise RuntimeError("the session of this transaction() has failed: there is nothing whole to commit")
        if self._later and not self._has_begun:
            # A message with a COMMIT in it is never sent again, as the first one is on a connection that has died.
            self._run([])
        if self._has_begun:
            self._end("commit")
        self.is_over = True
        if self.session:
            self.session.commit()

    def rollback(self) -> None:
        """Never fails: a connection that cannot be brought back to order is closed."""
        ours = self._ours
        if ours and (ours.is_useless or ours.driver.closed):
            # Else the session would try to roll it back.
            self._invalidate()
            self._has_begun = False
        self.is_over = True
        if self.session:
            self.session.rollback()
        if ours and self._has_begun:
            with suppress(psycopg2.Error):
                self._end("rollback")

    def _end(self, word: str) -> None:
        later, self._later = self._later, []
        connection = self._connection()
        if connection.end(word, later if word == "commit" else ()) != word.upper():
            # PostgreSQL answers a COMMIT so, without an error, where a statement had failed unnoticed.
            raise RuntimeError("a statement of this transaction() had failed: it was rolled back")
        self._has_begun = False
        if word == "commit" and connection.warnings:
            # PostgreSQL answers a COMMIT as ever, and adds a warning, where somebody cancels its wait for a standby.
            raise Unconfirmed(*connection.warnings)

    def _invalidate(self) -> None:
        """Close the connection, which is still to be given back."""
        if self._sqlalchemy:
            self._sqlalchemy.invalidate()
        elif self._entry:
            self._entry.invalidate()

    def release(self) -> None:
        """Give the connection back to the pool."""
        if self._ours and self._ours.driver.get_transaction_status() != TRANSACTION_STATUS_IDLE:
            self._invalidate()
        if self._sqlalchemy:
            self._sqlalchemy.close()
        elif self._entry:
            self._pool.give_back(self._entry)
