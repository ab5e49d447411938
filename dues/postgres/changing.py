"""The connection that changes tables beside those who use them."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any

import psycopg2

from config import Settings
from dues.postgres import patience
from dues.postgres.patience import Tell, patiently
from dues.postgres.sessions import connect
from dues.postgres.spread import IS_SPREAD

_LIMITS = "begin; set local statement_timeout = 0; set local lock_timeout = {}"


class Busy(Exception):
    """Another change of the schema is under way: a migration, or another `flask partitions`."""


class Refused(Exception):
    """The tables cannot be changed as they are; the message says why, and what to do."""


class Session:
    """Statements on a connection of its own, which may take as long as they need but wait for locks only shortly."""

    def __init__(self, driver: Any, tell: Tell, give_up_after_s: float) -> None:
        self._driver, self.tell = driver, tell
        self._until = time.monotonic() + give_up_after_s

    def rows(self, sql: str, values: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._driver.cursor() as cursor:
            cursor.execute(sql, values)
            found: list[tuple[Any, ...]] = cursor.fetchall()
            return found

    def value(self, sql: str, values: Mapping[str, Any] | None = None) -> Any:
        return self.rows(sql, values)[0][0]

    def is_spread(self) -> bool:
        """Whether the database has Citus."""
        return bool(self.value(f"select {IS_SPREAD}"))

    def text(self, sql: str, values: Mapping[str, Any]) -> str:
        """A statement with its values written into it."""
        with self._driver.cursor() as cursor:
            return str(cursor.mogrify(sql, values).decode())

    def alone(self, statement: str) -> None:
        """Run a statement that PostgreSQL takes in no transaction, and that waits for others but has nobody wait.
        Raises: psycopg2.Error."""
        with self._driver.cursor() as cursor:
            cursor.execute("set lock_timeout = 0")
            cursor.execute(statement)
            cursor.execute(f"set lock_timeout = {_lock_timeout()}")

    def together(self, statements: Sequence[str]) -> None:
        """Run statements in one transaction, and again where a lock was not to be had. Raises: psycopg2.Error."""
        message = "; ".join([_LIMITS.format(_lock_timeout()), *statements, "commit"])
        patiently(lambda: self._send(message), self.tell, self._until)

    def in_turn(self, statements: Sequence[str]) -> None:
        """As together(), but each statement in a message of its own: Citus passes on the whole text of a message where
        it means one statement."""
        patiently(lambda: self._send(_LIMITS.format(_lock_timeout()), *statements, "commit"), self.tell, self._until)

    def _send(self, *messages: str) -> None:
        with self._driver.cursor() as cursor:
            try:
                for message in messages:
                    cursor.execute(message)
            except psycopg2.Error:
                with suppress(psycopg2.Error):
                    cursor.execute("rollback")
                raise


def _lock_timeout() -> str:
    return f"{patience.LOCK_TIMEOUT_S * 1000:.0f}"


@contextmanager
def changing(
    config: Settings, tell: Tell = lambda _: None, give_up_after_s: float = patience.GIVE_UP_AFTER_S
) -> Iterator[Session]:
    """A session that alone changes tables until the block's end. Raises: Busy; psycopg2.Error."""
    with (
        closing(connect(config, "dues partitions lock")) as guard,
        closing(
            connect(config, "dues partitions", statement_timeout="0", enable_seqscan="on", lock_timeout=_lock_timeout())
        ) as driver,
    ):
        with guard.cursor() as cursor:
            # Held by a transaction, and not by the session: a proxy may give that to others in between.
            cursor.execute(
                "begin; set local idle_in_transaction_session_timeout = 0; select pg_try_advisory_xact_lock(%s)",
                (patience.SCHEMA_LOCK,),
            )
            if not cursor.fetchone()[0]:
                raise Busy("another change of tables is under way: a migration, or `flask partitions` elsewhere")
        try:
            yield Session(driver, tell, give_up_after_s)
        finally:
            # PostgreSQL may notice only some time after it that a connection was closed, and whoever comes next would
            # be refused.
            with suppress(psycopg2.Error), guard.cursor() as cursor:
                cursor.execute("rollback")
