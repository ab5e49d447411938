"""How many statements go to PostgreSQL, and how long they take: of a request for telemetry, of a block for a test."""

import time
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Engine, event

from dues.context import Scoped
from dues.observability.trace import is_recording, record_statement


class Statements:
    """How many statements ran in a context, and for how many seconds."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.texts: list[str] = []

    def add(self, texts: Sequence[str], seconds: float) -> None:
        self.count += len(texts)
        self.seconds += seconds
        self.texts.extend(texts)


_statements: ContextVar[Statements | None] = ContextVar("statements", default=None)


def counting_statements() -> Scoped[Statements]:
    """Count every statement that this thread sends to PostgreSQL inside the block."""
    return Scoped(_statements, Statements())


def count_message(texts: Sequence[str], seconds: float, end: str = "") -> None:
    """Statements were sent in one message, whose end was perhaps COMMIT or ROLLBACK, and which took so long."""
    if statements := _statements.get():
        statements.add(texts, seconds)
    if is_recording():
        for text in (*texts, end) if end else texts:
            record_statement(text, seconds)
            seconds = 0.0


def count_statements_of(engine: Engine) -> None:
    """Count those that SQLAlchemy sends."""

    def before(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        context.started = time.perf_counter()

    def after(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        count_message([statement], time.perf_counter() - context.started)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
