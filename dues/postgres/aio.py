"""PostgreSQL on the event loop: a few connections, each of which runs one read's statement at a time.

psycopg2 speaks to them without blocking. A statement costs no thread, and so no waiting for the interpreter, which
threads take away from one another and from the loop: that wait, not the work, is most of what a read on a thread costs.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_READ, POLL_WRITE

from config import Settings
from dues.errors import Unavailable
from dues.observability.metrics import READ_CONNECTIONS
from dues.postgres.connection import Connection, Row
from dues.postgres.sessions import (
    CONNECT_S,
    Address,
    addresses_of,
    check,
    connect_args,
    driver_url,
    hosts_of,
    wants_primary,
)
from dues.postgres.sqlstate import failure_of
from dues.postgres.watchdog import GRACE_S


class Lost(Exception):
    """There is no connection, or it was lost; nothing is known of the statement."""


class LoopPostgres:
    """The connections of one event loop, as many as statements ever ran at once; to the primary, or to `url`."""

    def __init__(self, settings: Settings, url: str = "") -> None:
        self._url = url or driver_url(settings)
        self._is_primary = not url and wants_primary(settings)
        self._args: dict[str, Any] = {"async_": True, **connect_args(settings)}
        self._prepare = settings.db_prepare
        self._longest_s = settings.db_statement_timeout_s + GRACE_S
        self._idle: list[_Connection] = []
        self._hosts = hosts_of(self._url)
        self._answered: Address = {}

    async def fetch_row(self, sql: str, values: Mapping[str, object]) -> Row | None:
        """Run one statement in autocommit mode and return its first row.

        Raises: Lost; Unavailable where PostgreSQL is there and did not do it, in time or at all.
        """
        connection = self._take() or await self._open()
        try:
            row = await connection.run(sql, values, self._longest_s)
        except psycopg2.Error as error:
            failure = failure_of(error)
            if failure and failure.drops:
                self._hosts.lost(connection.driver)
            connection.close()
            if failure and not failure.drops:
                raise Unavailable(failure.detail) from error
            if failure:
                # Whatever ended this connection has ended the others, too.
                self.close()
            raise Lost from error
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return row

    def _take(self) -> "_Connection | None":
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open:
                return connection
        return None

    async def _open(self) -> "_Connection":
        """A new connection, to the address that the last one had, or the next that answers."""
        try:
            # On a thread, because it looks up the host's name.
            addresses = await asyncio.get_running_loop().run_in_executor(None, addresses_of, self._url)
        except OSError as error:
            raise Lost from error
        addresses.sort(key=lambda address: (self._hosts.rank(address), address != self._answered))
        failure: Exception | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_S / len(addresses)):
                    connection = await self._open_at(address)
            except (psycopg2.Error, TimeoutError) as error:
                failure = error
            else:
                self._answered = address
                return connection
        raise Lost from failure

    async def _open_at(self, address: Address) -> "_Connection":
        connection = _Connection(psycopg2.connect(self._url, **(self._args | address)), prepare=self._prepare)
        try:
            await connection.ready(is_primary=self._is_primary)
        except BaseException:
            connection.close()
            raise
        self._hosts.answered(connection.driver)
        return connection

    def close(self) -> None:
        """Close those that lie idle."""
        while self._idle:
            self._idle.pop().close()


class _Connection:
    """One connection, `driver`; `_advance` is called when its socket has something to read, or again room to write."""

    def __init__(self, driver: Any, *, prepare: bool) -> None:
        self.driver, self._connection = driver, Connection(driver, prepare=prepare, longest_s=0)
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] | None = None
        self._socket = -1
        self._writes = False
        self.is_open = True
        READ_CONNECTIONS.inc()

    async def ready(self, *, is_primary: bool) -> None:
        """Wait until it is connected, to a primary where that is wanted. Raises: psycopg2.Error."""
        self._done = self._loop.create_future()
        self._connect()
        await self._done
        check(self.driver, is_primary=is_primary)
        self._loop.add_reader(self._watched(), self._advance)

    def _connect(self) -> None:
        """Go on connecting. libpq may give up an address and try the next on another socket, which has the same number
        more often than not: each time, the one there is now is watched anew."""
        self._unwatch()
        try:
            state = self.driver.poll()
        except psycopg2.Error as error:
            self._fail(error)
            return
        if state == POLL_OK:
            assert self._done
            if not self._done.done():
                self._done.set_result(None)
        elif state == POLL_WRITE:
            self._loop.add_writer(self._watched(), self._connect)
        elif state == POLL_READ:
            self._loop.add_reader(self._watched(), self._connect)

    def _watched(self) -> int:
        self._socket = self.driver.fileno()
        return self._socket

    def _unwatch(self) -> None:
        if self._socket >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = -1

    async def run(self, sql: str, values: Mapping[str, object], longest_s: float) -> Row | None:
        """Raises: psycopg2.Error, Unavailable; the connection is then to be closed."""
        self._done = self._loop.create_future()
        timer = self._loop.call_later(longest_s, self._fail, Unavailable("the database did not answer in time"))
        with self.driver.cursor() as cursor:
            try:
                self._connection.send(cursor, [(sql, values)])
                self._advance()
                await self._done
            finally:
                timer.cancel()
            row: Row | None = cursor.fetchone()
            return row

    def _advance(self) -> None:
        try:
            state = self.driver.poll()
        except psycopg2.Error as error:
            self._fail(error)
            return
        if (state == POLL_WRITE) != self._writes:
            self._writes = not self._writes
            if self._writes:
                self._loop.add_writer(self._socket, self._advance)
            else:
                self._loop.remove_writer(self._socket)
        if state == POLL_OK and self._done and not self._done.done():
            self._done.set_result(None)

    def _fail(self, error: Exception) -> None:
        """Tell the task that waits for an answer, if there is one; then close."""
        if self._done and not self._done.done():
            self._done.set_exception(error)
        else:
            self.close()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._unwatch()
            self.driver.close()
            READ_CONNECTIONS.dec()
