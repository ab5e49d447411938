"""Counts what is sent to PostgreSQL, whichever road it takes: the ORM, Core, or a bare cursor."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import psycopg2.extensions
from sqlalchemy import Engine, event


class Queries(list[str]):
    """The statements recorded, in order."""

    def __str__(self) -> str:
        return "\n".join(f"{number}. {statement}" for number, statement in enumerate(self, 1))


class Listener(Protocol):
    """Is told of each statement before it is sent."""

    def append(self, text: str, /) -> None: ...


class QueryRecorder:
    """Watches the connections of one engine; used as `with queries() as seen: …; assert len(seen) == 1, str(seen)`."""

    def __init__(self, engine: Engine) -> None:
        self._active: list[Queries | Listener] = []
        active = self._active

        class RecordingCursor(psycopg2.extensions.cursor):
            def execute(self, query: Any, vars: Any = None) -> None:  # noqa: A002
                text = query.decode() if isinstance(query, bytes) else str(query)
                for seen in active:
                    seen.append(text)
                super().execute(query, vars)

            def executemany(self, query: Any, vars_list: Any) -> None:
                for seen in active:
                    seen.append(str(query))
                super().executemany(query, vars_list)

        def on_connect(connection: Any, record: Any) -> None:
            connection.cursor_factory = RecordingCursor

        engine.dispose()
        event.listen(engine, "connect", on_connect)

    def listen(self, listener: Listener) -> None:
        """Tell `listener` of every statement from now on."""
        self._active.append(listener)

    @contextmanager
    def __call__(self) -> Iterator[Queries]:
        """Record every statement of the block, from any thread."""
        seen = Queries()
        self._active.append(seen)
        try:
            yield seen
        finally:
            # By identity: two recordings of the same statements are equal.
            self._active[:] = [other for other in self._active if other is not seen]
