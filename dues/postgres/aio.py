"""PostgreSQL on the event loop: a few connections, each of which runs one read's statement at a time.

psycopg2 speaks to them without blocking. A statement costs no thread, and so no waiting for the interpreter, which
threads take away from one another and from the loop: that wait, not the work, is most of what a read on a thread costs.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import psycopg2
from psycopg2.extensions import POLL_OK, POLL_WRITE

from config import Settings
from dues.errors import Unavailable
from dues.observability.metrics import READ_CONNECTIONS
from dues.postgres import prepared
from dues.postgres.orm import driver_url, session_options

_CONNECT_S = 5.0
# Longer than PostgreSQL itself lets a statement run: only one that does not even say so is given up here.
_GRACE_S = 2.0

Row = tuple[Any, ...]


class Lost(Exception):
    """There is no connection, or it was lost; nothing is known of the statement."""


class LoopPostgres:
    """The connections of one event loop, as many as statements ever ran at once."""

    def __init__(self, settings: Settings) -> None:
        self._url = driver_url(settings)
        self._options: dict[str, Any] = {"async_": True, **session_options(settings)}
        self._prepare = settings.db_prepare
        self._longest_s = settings.db_statement_timeout_s + _GRACE_S
        self._idle: list[_Connection] = []

    async def fetch_row(self, sql: str, values: Mapping[str, object]) -> Row | None:
        """Run one statement in autocommit mode and return its first row.

        Raises: Lost; Unavailable where PostgreSQL is there and did not do it, in time or at all.
        """
        connection = self._take() or await self._open()
        try:
            row = await connection.run(sql, values, self._longest_s)
        except psycopg2.Error as error:
            is_lost = connection.is_lost
            connection.close()
            if isinstance(error, psycopg2.OperationalError) and not is_lost:
                raise Unavailable("the database is not available") from error
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
        def start() -> Any:
            return psycopg2.connect(self._url, **self._options)

        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_CONNECT_S):
                # On a thread, because it looks up the host's name.
                connection = _Connection(await loop.run_in_executor(None, start), prepare=self._prepare)
                try:
                    await connection.ready()
                except BaseException:
                    connection.close()
                    raise
                return connection
        except (psycopg2.Error, TimeoutError) as error:
            raise Lost from error

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class _Connection:
    """One connection; `_advance` is called when its socket has something to read, or again room to write."""

    def __init__(self, raw: Any, *, prepare: bool) -> None:
        self._raw, self._prepare = raw, prepare
        self._kept: OrderedDict[str, str] = OrderedDict()
        self._loop = asyncio.get_running_loop()
        self._done: asyncio.Future[None] | None = None
        self._socket: int = raw.fileno()
        self._writes = False
        self._loop.add_reader(self._socket, self._advance)
        self.is_open = True
        READ_CONNECTIONS.inc()

    @property
    def is_lost(self) -> bool:
        return bool(self._raw.closed)

    async def ready(self) -> None:
        """Wait until it is connected."""
        self._done = self._loop.create_future()
        self._advance()
        await self._done

    async def run(self, sql: str, values: Mapping[str, object], longest_s: float) -> Row | None:
        """Raises: psycopg2.Error; the connection is then to be closed."""
        self._done = self._loop.create_future()
        timer = self._loop.call_later(longest_s, self._fail, psycopg2.OperationalError("no answer in time"))
        with self._raw.cursor() as cursor:
            try:
                if self._prepare:
                    prepared.execute(cursor, self._kept, [(sql, values)])
                else:
                    cursor.execute(sql, values)
                self._advance()
                await self._done
            finally:
                timer.cancel()
            row: Row | None = cursor.fetchone()
            return row

    def _advance(self) -> None:
        try:
            state = self._raw.poll()
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

    def _fail(self, error: psycopg2.Error) -> None:
        """Whoever waits is told; a connection that nobody uses is only closed."""
        if self._done and not self._done.done():
            self._done.set_exception(error)
        else:
            self.close()

    def close(self) -> None:
        if self.is_open:
            self.is_open = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._raw.close()
            READ_CONNECTIONS.dec()
