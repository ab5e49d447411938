"""How many statements go to PostgreSQL, and how long they take: of a request for telemetry, of a block for a test."""

import time
from contextvars import ContextVar
from typing import Any

from sqlalchemy import Engine, event

from dues.context import Scoped
from dues.observability.trace import record_statement


class Statements:
    """How many statements ran in a context, and for how many seconds."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0
        self.texts: list[str] = []

    def add(self, text: str, seconds: float) -> None:
        self.count += 1
        self.seconds += seconds
        self.texts.append(text)


_statements: ContextVar[Statements | None] = ContextVar("statements", default=None)


def counting_statements() -> Scoped[Statements]:
    """Count every statement that this thread sends to PostgreSQL inside the block."""
    return Scoped(_statements, Statements())


def count_statement(text: str, seconds: float) -> None:
    """One was sent, and took so long."""
    if statements := _statements.get():
        statements.add(text, seconds)
    record_statement(text, seconds)


def count_statements_of(engine: Engine) -> None:
    """Count those that SQLAlchemy sends."""

    def before(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        context.started = time.perf_counter()

    def after(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        count_statement(statement, time.perf_counter() - context.started)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)
