"""PostgreSQL: the connection pool, the unit of work, and the short road for reads.

Writes go through `transaction()`, the only place that commits. Lists and documents are read through `fetch_row()`,
which runs one statement in autocommit mode on a bare cursor: no BEGIN, no ROLLBACK, one round trip. (The front door has
connections of its own: api/front/postgres.py.)
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from typing import Any, ClassVar

import psycopg2
import psycopg2.extras
import ujson
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import BigInteger, DateTime, Engine, MetaData, Text, event
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, declared_attr, mapped_column

from config import Settings
from dues import prepared
from dues.clock import now
from dues.context import Setting
from dues.pool import MeasuredPool, measure
from dues.settings import settings

psycopg2.extras.register_uuid()  # type: ignore[no-untyped-call]


class Model(DeclarativeBase):
    """Base of every table's model. Constraints are named as PostgreSQL itself would, so migrations read alike."""

    metadata = MetaData(
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        int: BigInteger(),
        datetime: DateTime(timezone=True),
    }


class Versioned:
    """Columns of every row that changes: `version` counts its changes, for ETags and If-Match, and guards each
    ORM update, so that two writers never overwrite one another unseen."""

    version: Mapped[int] = mapped_column(default=1)
    created_at: Mapped[datetime] = mapped_column(default=now)
    updated_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)

    @declared_attr.directive
    @classmethod
    def __mapper_args__(cls) -> dict[str, Any]:
        return {"version_id_col": cls.version}


db = SQLAlchemy(session_options={"expire_on_commit": False})


def init_db(app: Flask, config: Settings) -> None:
    """Give `app` its engine."""
    app.config["SQLALCHEMY_DATABASE_URI"] = config.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "poolclass": MeasuredPool,
        "pool_size": config.db_pool_size,
        "max_overflow": 0,
        "pool_timeout": config.db_pool_timeout_s,
        "pool_use_lifo": True,
        # What a statement was given may be a secret, and its error goes into the logs.
        "hide_parameters": True,
        "json_serializer": lambda value: ujson.dumps(value, allow_nan=False, escape_forward_slashes=False),
        "json_deserializer": ujson.loads,
        "connect_args": {"connect_timeout": 5, **session_options(config)},
    }
    db.init_app(app)
    with app.app_context():
        _count_statements(db.engine)
        measure(db.engine.pool, config.db_pool_size)


def session_options(config: Settings) -> dict[str, str]:
    """What every connection is opened with. Sessions run in UTC, bounded in time, and without the JIT, which costs
    short statements more than it saves. Tables are read whole only where no index serves: a plan that was kept while a
    table was small, of a prepared statement or a foreign key's check, would go on reading all of it as it grows, until
    it is next analyzed."""
    options = {
        "timezone": "UTC",
        "jit": "off",
        "enable_seqscan": "off",
        "statement_timeout": int(config.db_statement_timeout_s * 1000),
        "idle_in_transaction_session_timeout": 60_000,
    }
    return {"application_name": "dues", "options": " ".join(f"-c {name}={value}" for name, value in options.items())}


def driver_url(config: Settings) -> str:
    """The database's URL as psycopg2 itself takes it."""
    return config.database_url.replace("postgresql+psycopg2:", "postgresql:", 1)


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


def counting_statements() -> Setting[Statements]:
    """Count every statement that this thread sends to PostgreSQL inside the block."""
    return Setting(_statements, Statements())


def _count_statements(engine: Engine) -> None:
    def before(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        if work := _unit_of_work.get():
            work.before_statement(conn)
        context.started = time.perf_counter()

    def after(conn: Any, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool) -> None:
        if statements := _statements.get():
            statements.add(statement, time.perf_counter() - context.started)

    event.listen(engine, "before_cursor_execute", before)
    event.listen(engine, "after_cursor_execute", after)


class UnitOfWork:
    """What one `transaction()` has gathered to do around its commit."""

    def __init__(self, session: Session) -> None:
        self.tags: set[str] = set()
        self.events: list[Any] = []
        self.after_commit: list[Callable[[], None]] = []
        self._session = session
        self._connection: Any = None
        self._later: list[prepared.Statement] = []

    def run_later(self, sql: str, values: Mapping[str, Any]) -> None:
        # What the session still has to write was written before.
        self._session.flush()
        self._later.append((sql, values))

    def before_statement(self, connection: Any) -> None:
        """SQLAlchemy is about to run a statement of its own: what was to run later runs before it."""
        if self._later and connection is self._session.connection():
            self._run([], hot=True)

    def fetch_row(self, sql: str, values: Mapping[str, Any], *, hot: bool) -> tuple[Any, ...] | None:
        self._session.flush()
        return self._run([(sql, values)], hot=hot)

    def flush(self) -> None:
        """Have PostgreSQL know all that was written."""
        self._session.flush()
        if self._later:
            self._run([], hot=True)

    def _run(self, statements: list[prepared.Statement], *, hot: bool) -> tuple[Any, ...] | None:
        if self._connection is None:
            # Looked up once: SQLAlchemy takes as long for it as for a short statement.
            self._connection = self._session.connection().connection
        later, self._later = self._later, []
        with self._connection.dbapi_connection.cursor() as cursor:
            _execute(cursor, self._connection.info, [*later, *statements], prepare=hot or bool(later))
            return _first(cursor) if statements else None


_unit_of_work: ContextVar[UnitOfWork | None] = ContextVar("unit_of_work", default=None)


@contextmanager
def transaction() -> Iterator[Session]:
    """One unit of work: all of the block is committed at its end, or none of it.

    The only place that commits. Blocks do not nest: a function that is part of a larger unit of work takes the
    one that its caller opened (`unit_of_work()` fails when there is none).
    """
    if _unit_of_work.get() is not None:
        raise RuntimeError("transaction() inside transaction(): the outer block is the unit of work")
    session = db.session()
    session.rollback()
    work = UnitOfWork(session)
    token = _unit_of_work.set(work)
    try:
        yield session
        work.flush()
        for hook in (*_before_commit, *_last_before_commit):
            hook(session, work)
        work.flush()
        session.commit()
    except BaseException:
        session.rollback()
        raise
    finally:
        _unit_of_work.reset(token)
    for callback in work.after_commit:
        callback()


def unit_of_work() -> UnitOfWork:
    """The unit of work that the caller is in. Raises: RuntimeError outside `transaction()`."""
    work = _unit_of_work.get()
    if work is None:
        raise RuntimeError("a write needs a transaction() around it")
    return work


def in_transaction() -> bool:
    """Whether the caller is inside `transaction()`."""
    return _unit_of_work.get() is not None


def after_commit(callback: Callable[[], None]) -> None:
    """Call `callback` once the present unit of work is committed; it must neither fail nor matter for correctness,
    because a process may die before it runs."""
    unit_of_work().after_commit.append(callback)


Hook = Callable[[Session, UnitOfWork], None]

_before_commit: list[Hook] = []
_last_before_commit: list[Hook] = []


def before_commit(hook: Hook) -> Hook:
    """Have `hook(session, work)` run last thing before every commit; what it raises rolls back."""
    _before_commit.append(hook)
    return hook


def last_before_commit(hook: Hook) -> Hook:
    """The same, after all of those: for a hook that locks what others wait for."""
    _last_before_commit.append(hook)
    return hook


def fetch_row(sql: str, params: Mapping[str, Any], *, hot: bool = False) -> tuple[Any, ...] | None:
    """Run one statement and return its first row, or None.

    Inside `transaction()` it runs there, prepared if it is `hot`, and sees what was written. Outside it runs alone,
    prepared when it recurs, in autocommit mode, on a pooled connection that is given back before this returns; a
    connection that the server had closed while it lay idle is replaced once.
    """
    work = _unit_of_work.get()
    if work is None:
        return fetch_row_alone(sql, params)
    started = time.perf_counter()
    try:
        return work.fetch_row(sql, params, hot=hot)
    finally:
        _count(sql, started)


def fetch_row_alone(sql: str, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The same, apart from any `transaction()` that the caller may be in."""
    started = time.perf_counter()
    try:
        try:
            return _fetch_alone(sql, params)
        except ConnectionLost:
            return _fetch_alone(sql, params)
    finally:
        _count(sql, started)


def _count(sql: str, started: float) -> None:
    if statements := _statements.get():
        statements.add(sql, time.perf_counter() - started)


def run_later(sql: str, params: Mapping[str, Any]) -> None:
    """Run a statement whose answer nobody needs, in the present unit of work: it goes out in one message with the next
    that is asked for, so it costs no round trip. What is wrong with it is raised there, or at the commit."""
    unit_of_work().run_later(sql, params)
    if statements := _statements.get():
        statements.add(sql, 0.0)


class ConnectionLost(psycopg2.OperationalError):
    """The server had closed a pooled connection."""


def _fetch_alone(sql: str, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
    pool = db.engine.pool
    assert isinstance(pool, MeasuredPool)
    with pool.borrowed() as entry:
        connection: Any = entry.dbapi_connection
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                _execute(cursor, entry.info, [(sql, params)], prepare=True)
                return _first(cursor)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            if not connection.closed:
                raise
            entry.invalidate(error)
            raise ConnectionLost(str(error)) from error
        finally:
            if not connection.closed:
                connection.autocommit = False


def _execute(cursor: Any, info: dict[Any, Any], statements: Sequence[prepared.Statement], *, prepare: bool) -> None:
    """`info` is what the pool keeps with the connection."""
    if prepare and settings().db_prepare:
        prepared.execute(cursor, info.setdefault("prepared", OrderedDict()), statements)
    elif len(statements) == 1:
        cursor.execute(*statements[0])
    else:
        cursor.execute(b"; ".join([cursor.mogrify(*statement) for statement in statements]))


def _first(cursor: Any) -> tuple[Any, ...] | None:
    row: tuple[Any, ...] | None = cursor.fetchone()
    return row
