"""Two writers at once, without chance: one transaction is held open while the others run into it."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import psycopg2

from tests.factory import Factory
from tests.servers import Servers, wait_until

T = TypeVar("T")
_WAITING = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
_WAITING_ANYWHERE = f"select ({_WAITING}) + (select sum(result::int) from run_command_on_workers($${_WAITING}$$))"


class Contention:
    """`with contention.held(sql, …): futures = contention.start(2, one, other)`: those run into what is held, and go
    on when the block ends and commits."""

    def __init__(self, servers: Servers, make: Factory, pool: ThreadPoolExecutor) -> None:
        self._servers, self._make, self._pool = servers, make, pool

    @contextmanager
    def held(self, *statements: str, **values: Any) -> Iterator[None]:
        """A transaction that has run these statements, committed at the end of the block."""
        with closing(psycopg2.connect(self._servers.database_url)) as connection:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement, values)
            yield
            connection.commit()

    def start(self, *calls: Callable[[], T]) -> list[Future[T]]:
        """Start each call in a thread of its own, and wait until all of them wait for a lock."""
        futures = [self._pool.submit(call) for call in calls]
        wait_until(lambda: self._blocked() >= len(calls), what="everybody to wait for a lock")
        return futures

    def _blocked(self) -> int:
        return int(self._make.value(_WAITING_ANYWHERE if self._servers.is_spread else _WAITING))
