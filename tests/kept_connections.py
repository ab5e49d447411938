"""Connections to PostgreSQL that are used again and again. After each row that a test makes all cached answers are
forgotten (tests/servers.py), whereupon the cache opens a connection: tens of thousands of them took a tenth of the
tests' time."""

import contextlib
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
from flask import Flask

from dues.postgres import db, is_spread
from dues.reads.freshness import fresh_cache


@contextmanager
def kept_connections(app: Flask) -> Iterator[None]:
    """While the block runs the application has such connections. Afterwards it has none at all."""
    with app.app_context():
        switch = fresh_cache().switch
        # A process asks once, and no test is to count it.
        is_spread()
    connections = switch.connect = KeptConnections(switch.connect)
    yield
    connections.close()
    with app.app_context():
        db.engine.dispose()


class KeptConnections:
    """Called as what opens a connection. One that is closed is kept, and lent to the next that asks."""

    def __init__(self, connect: Callable[[], Any]) -> None:
        self._connect = connect
        self._free: list[Any] = []

    def __call__(self) -> Any:
        while self._free:
            if is_live(connection := self._free.pop()):
                return _Lent(connection, self._free)
        return _Lent(self._connect(), self._free)

    def close(self) -> None:
        while self._free:
            self._free.pop().close()


class _Lent:
    def __init__(self, connection: Any, free: list[Any]) -> None:
        self._connection, self._free = connection, free
        self.cursor, self.set_session = connection.cursor, connection.set_session

    def close(self) -> None:
        # One that the server has ended has nothing to roll back, and is not lent again.
        with contextlib.suppress(psycopg2.Error):
            self._connection.rollback()
        self._free.append(self._connection)


def is_live(connection: Any) -> bool:
    """Whether the server still has it: between two statements there is something to read only where it has ended it."""
    return not connection.closed and not select.select([connection], [], [], 0)[0]
