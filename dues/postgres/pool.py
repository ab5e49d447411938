"""The connection pool: its connections, measured (a queue before the database is the first sign that a server has too
few of them), and dropped where what the server said tells that they are of no more use (sqlstate.py).
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection as SQLAlchemyConnection
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from config import Settings
from dues.observability.metrics import POOL_IN_USE, POOL_OPEN, POOL_SIZE, POOL_TIMEOUTS, POOL_WAIT_SECONDS, POOL_WAITS
from dues.postgres.connection import Connection
from dues.postgres.sessions import check, driver_url, hosts_of, register_ids, wants_primary
from dues.postgres.sqlstate import failure_of
from dues.postgres.watchdog import watchdog

# An execution option of SQLAlchemy's connections whose statements may take longer than others'.
UNBOUNDED = "dues_unbounded"
# Under this name the pool keeps our side of a connection with it.
_OURS = "dues"


# A connection that is taken already, for the one call of SQLAlchemy's that is to go on with it.
_taken = threading.local()


class MeasuredPool(QueuePool):
    """SQLAlchemy's pool, counting how often a connection had to be waited for.

    What SQLAlchemy puts around a connection that it gives out, to undo what a borrower left open, takes longer in
    Python than a short statement. So connections are taken without it, and it comes around one where it is used.
    """

    def _do_get(self) -> ConnectionPoolEntry:
        entry: ConnectionPoolEntry | None = _taken.__dict__.pop("entry", None)
        if entry is not None:
            return entry
        if self.checkedout() < self.size():
            return super()._do_get()
        started = time.perf_counter()
        try:
            return super()._do_get()
        except PoolTimeout:
            POOL_TIMEOUTS.inc()
            raise
        finally:
            POOL_WAITS.inc()
            POOL_WAIT_SECONDS.inc(time.perf_counter() - started)

    def take(self) -> ConnectionPoolEntry:
        """A connection that is open, to be given back. Raises: sqlalchemy.exc.TimeoutError, psycopg2.Error."""
        entry = self._do_get()
        try:
            entry.get_connection()  # type: ignore[attr-defined]  # opens it, where it is not open
        except BaseException:
            self._do_return_conn(entry)
            raise
        POOL_IN_USE.inc()
        return entry

    def give_back(self, entry: ConnectionPoolEntry) -> None:
        """Nothing may be left open on it."""
        POOL_IN_USE.dec()
        if _OURS in entry.info:
            connection_of(entry.info).has_lain_idle = True
        self._do_return_conn(entry)

    @contextmanager
    def borrowed(self) -> Iterator[Connection]:
        """A connection for statements that run alone. The block leaves nothing open."""
        entry = self.take()
        connection = connection_of(entry.info)
        try:
            yield connection
        finally:
            if connection.is_useless:
                entry.invalidate()
            self.give_back(entry)

    def wrapped(self, engine: Engine, entry: ConnectionPoolEntry) -> SQLAlchemyConnection:
        """A connection that was taken as SQLAlchemy's, with which it is given back."""
        POOL_IN_USE.dec()
        _taken.entry = entry
        return engine.connect()

    def forget_older(self) -> None:
        """Give out no connection any more that was opened before now, as SQLAlchemy does of a pool one of whose
        connections was lost: what ended one ended its neighbours."""
        self._invalidate_time = time.time()


def pool_of(engine: Engine) -> MeasuredPool:
    """The pool that `engine` has at this moment: it makes another as it forks, or is disposed of."""
    assert isinstance(engine.pool, MeasuredPool)
    return engine.pool


def connection_of(info: dict[Any, Any]) -> Connection:
    """Our side of a pooled connection, from what the pool keeps with it."""
    connection: Connection = info[_OURS]
    return connection


def watch(engine: Engine, config: Settings) -> None:
    """Look after the connections of `engine`'s pool, and keep its gauges; those of a process begin with its first."""
    longest_s = config.db_statement_timeout_s
    hosts = hosts_of(driver_url(config))

    def opened(driver: Any, entry: ConnectionPoolEntry) -> None:
        check(driver, is_primary=wants_primary(config))
        hosts.answered(driver)
        register_ids()
        entry.info[_OURS] = Connection(driver, prepare=config.db_prepare, longest_s=longest_s)
        POOL_SIZE.set(config.db_pool_size)
        POOL_OPEN.inc()

    def given_back(driver: Any, entry: ConnectionPoolEntry) -> None:
        POOL_IN_USE.dec()
        if _OURS in entry.info:
            connection_of(entry.info).has_lain_idle = True

    def before_statement(connection: SQLAlchemyConnection, *_: object) -> None:
        if UNBOUNDED not in connection.get_execution_options():
            watchdog.watch(connection.connection.dbapi_connection, longest_s)

    def after_statement(connection: SQLAlchemyConnection, *_: object) -> None:
        watchdog.done(connection.connection.dbapi_connection)

    def dropped(driver: Any, *_: object) -> None:
        if not watchdog.is_hurried:
            hosts.lost(driver)
            pool_of(engine).forget_older()

    def failed(context: ExceptionContext) -> None:
        if context.connection and not context.connection.closed:
            after_statement(context.connection)
        failure = failure_of(context.original_exception)
        if failure and failure.drops:
            context.is_disconnect = True
            context.invalidate_pool_on_disconnect = not watchdog.is_hurried

    # They stay with the pools that take this one's place.
    pool = engine.pool
    event.listen(pool, "connect", opened)
    event.listen(pool, "close", lambda *_: POOL_OPEN.dec())
    event.listen(pool, "checkout", lambda *_: POOL_IN_USE.inc())
    event.listen(pool, "checkin", given_back)
    event.listen(pool, "invalidate", dropped)
    event.listen(engine, "before_cursor_execute", before_statement)
    event.listen(engine, "after_cursor_execute", after_statement)
    event.listen(engine, "handle_error", failed)
