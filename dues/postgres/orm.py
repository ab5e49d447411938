"""PostgreSQL: the connection pool, the unit of work, and the short road for reads.

Writes go through `transaction()`, the only place that commits. Lists and documents are read through `fetch_row()`,
which runs one statement in autocommit mode on a bare cursor: no BEGIN, no ROLLBACK, one round trip. (The front door has
connections of its own: dues/postgres/aio.py.)
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any, ClassVar, cast

import psycopg2
import psycopg2.extras
import ujson
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy import BigInteger, Connection, DateTime, Engine, MetaData, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, declared_attr, mapped_column

from config import Settings
from dues.clock import now
from dues.postgres.pool import MeasuredPool, measure
from dues.postgres.statement_stats import count_statement, count_statements_of
from dues.postgres.unit_of_work import UnitOfWork, execute, first_row, present_work, watch

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


class _Session(FlaskSession):
    """Inside `transaction()`, on the connection of the unit of work."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        if work := present_work.get():
            work.session = self

    def rollback(self) -> None:
        if (work := present_work.get()) and not work.is_over:
            # It would undo nothing: the unit of work alone begins and ends.
            raise RuntimeError("leave the block of transaction() by an exception to roll it back")
        super().rollback()

    def get_bind(self, *args: Any, **options: Any) -> Engine | Connection:
        work = present_work.get()
        return work.connection() if work else super().get_bind(*args, **options)


db = SQLAlchemy(session_options={"class_": _Session, "expire_on_commit": False})


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
        count_statements_of(db.engine)
        measure(db.engine.pool, config.db_pool_size)
        watch(db.engine.pool, prepare=config.db_prepare)


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


@contextmanager
def transaction() -> Iterator[Session]:
    """One unit of work: all of the block is committed at its end, or none of it.

    The only place that commits. Blocks do not nest: a function that is part of a larger unit of work takes the
    one that its caller opened (`unit_of_work()` fails when there is none).
    """
    if present_work.get() is not None:
        raise RuntimeError("transaction() inside transaction(): the outer block is the unit of work")
    session = db.session() if db.session.registry.has() else None
    if session:
        session.rollback()
    work = UnitOfWork(db.engine, session)
    token = present_work.set(work)
    try:
        # What stands for the present context's session, and makes one when it is first used.
        yield cast(Session, db.session)
        # What was left for later goes out with the first statement of a hook.
        work.flush_session()
        for hook in (*_before_commit, *_last_before_commit):
            hook(work)
        work.flush()
        work.commit()
    except BaseException:
        work.rollback()
        raise
    finally:
        try:
            present_work.reset(token)
        finally:
            work.release()
    for callback in work.after_commit:
        callback()


def unit_of_work() -> UnitOfWork:
    """The unit of work that the caller is in. Raises: RuntimeError outside `transaction()`."""
    work = present_work.get()
    if work is None:
        raise RuntimeError("a write needs a transaction() around it")
    return work


def in_transaction() -> bool:
    """Whether the caller is inside `transaction()`."""
    return present_work.get() is not None


def after_commit(callback: Callable[[], None]) -> None:
    """Call `callback` once the present unit of work is committed; it must neither fail nor matter for correctness,
    because a process may die before it runs."""
    unit_of_work().after_commit.append(callback)


Hook = Callable[[UnitOfWork], None]

_before_commit: list[Hook] = []
_last_before_commit: list[Hook] = []


def before_commit(hook: Hook) -> Hook:
    """Have `hook(work)` run last thing before every commit; what it raises rolls back."""
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
    work = present_work.get()
    if work is None:
        return fetch_row_alone(sql, params)
    started = time.perf_counter()
    try:
        return work.fetch_row(sql, params, hot=hot)
    finally:
        count_statement(sql, time.perf_counter() - started)


def fetch_row_alone(sql: str, params: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The same, apart from any `transaction()` that the caller may be in."""
    started = time.perf_counter()
    try:
        try:
            return _fetch_alone(sql, params)
        except ConnectionLost:
            return _fetch_alone(sql, params)
    finally:
        count_statement(sql, time.perf_counter() - started)


def database_now() -> datetime:
    """PostgreSQL's clock. It decides wherever a stored time is compared with the present: the clocks of the machines
    that Dues runs on differ."""
    row = fetch_row("select clock_timestamp()", {})
    assert row
    moment: datetime = row[0]
    return moment


def run_later(sql: str, params: Mapping[str, Any]) -> None:
    """Run a statement whose answer nobody needs, in the present unit of work: it goes out in one message with the next
    that is asked for, so it costs no round trip. What is wrong with it is raised there, or at the commit."""
    unit_of_work().run_later(sql, params)
    count_statement(sql, 0.0)


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
                execute(cursor, entry.info, [(sql, params)], prepare=True)
                return first_row(cursor)
        except (psycopg2.OperationalError, psycopg2.InterfaceError) as error:
            if not connection.closed:
                raise
            entry.invalidate(error)
            raise ConnectionLost(str(error)) from error
        finally:
            if not connection.closed:
                connection.autocommit = False
