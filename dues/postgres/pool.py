"""The connection pool, measured: a queue before the database is the first sign that a server has too few of them."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, Pool, QueuePool

from dues.observability.metrics import POOL_IN_USE, POOL_OPEN, POOL_SIZE, POOL_TIMEOUTS, POOL_WAIT_SECONDS, POOL_WAITS


class MeasuredPool(QueuePool):
    """SQLAlchemy's pool, counting who had to wait."""

    def _do_get(self) -> ConnectionPoolEntry:
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

    @contextmanager
    def borrowed(self) -> Iterator[ConnectionPoolEntry]:
        """One of the pool's connections as the driver has it, for a statement that runs alone: what SQLAlchemy puts
        around a connection, to undo what a borrower left open, is a tenth of what a short read costs in Python.

        The block leaves nothing open, and calls `invalidate()` on what it found broken.
        """
        entry = self._do_get()
        try:
            entry.get_connection()  # type: ignore[attr-defined]  # opens it, where it is not open
            POOL_IN_USE.inc()
            try:
                yield entry
            finally:
                POOL_IN_USE.dec()
        finally:
            self._do_return_conn(entry)


def measure(pool: Pool, size: int) -> None:
    """Keep the gauges of `pool`, which opens up to `size` connections; those of a process begin with its first."""

    def opened(connection: Any, entry: Any) -> None:
        POOL_SIZE.set(size)
        POOL_OPEN.inc()

    event.listen(pool, "connect", opened)
    event.listen(pool, "close", lambda *_: POOL_OPEN.dec())
    event.listen(pool, "checkout", lambda *_: POOL_IN_USE.inc())
    event.listen(pool, "checkin", lambda *_: POOL_IN_USE.dec())
