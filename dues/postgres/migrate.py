"""Bring the database's tables up to date: `flask --app wsgi migrate`."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import click
from alembic.command import upgrade
from alembic.config import Config
from alembic.migration import MigrationContext
from flask.cli import with_appcontext
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from config import Settings
from dues.postgres import patience, revisions
from dues.postgres.command_line import Command
from dues.postgres.patience import GIVE_UP_AFTER_S, Tell, patiently
from dues.postgres.pool import UNBOUNDED
from dues.postgres.sessions import DIALECT, check_server, connect, opener, session_settings
from dues.settings import settings

_BLOCKERS = text("""
    select pid, usename, application_name, state, round(extract(epoch from clock_timestamp() - xact_start)) as seconds
    from pg_stat_activity where pid = any(pg_blocking_pids(:pid))
""")
_SET_FOR_ROLE = """
    do $$ begin
        execute format('alter role current_user in database %I set {name} = %L', current_database(), '{value}');
    end $$
"""


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(revisions.FOLDER))
    return config


def migrate(engine: Engine, tell: Tell = lambda _: None, give_up_after_s: float = GIVE_UP_AFTER_S) -> None:
    """Apply every migration that is missing, each in a transaction of its own.

    One that cannot lock what it changes within two seconds is tried again, for `give_up_after_s` in all; `tell` is
    given a line about what it waits for. Raises: sqlalchemy.exc.DBAPIError.
    """
    until = time.monotonic() + give_up_after_s
    while patiently(lambda: _apply_next(engine, tell), tell, until):
        pass


def _apply_next(engine: Engine, tell: Tell) -> bool:
    """Apply the oldest migration that is missing. False where none is."""
    options: Any = {"isolation_level": "READ COMMITTED", UNBOUNDED: True}
    with engine.connect().execution_options(**options) as connection, connection.begin():
        connection.execute(text("set local statement_timeout = 0"))
        connection.execute(text(f"set local lock_timeout = {int(patience.LOCK_TIMEOUT_S * 1000)}"))
        with _telling_of_blockers(engine, connection, tell):
            connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": patience.SCHEMA_LOCK})
            revision = _next_after(MigrationContext.configure(connection).get_current_revision())
            if revision is None:
                return False
            tell(f"applying migration {revision}")
            config = alembic_config()
            config.attributes["connection"] = connection
            upgrade(config, revision)
    return True


@contextmanager
def _telling_of_blockers(engine: Engine, connection: Connection, tell: Tell) -> Iterator[None]:
    """While the block runs, report the sessions that hold a lock it waits for."""
    pid = connection.execute(text("select pg_backend_pid()")).scalar_one()
    is_over = threading.Event()

    def look() -> None:
        while not is_over.wait(patience.LOCK_TIMEOUT_S / 2):
            with suppress(SQLAlchemyError), engine.connect() as other:
                for blocker in other.execute(_BLOCKERS, {"pid": pid}):
                    tell(
                        f"waiting for process {blocker.pid} of PostgreSQL ({blocker.usename},"
                        f" {blocker.application_name or 'unnamed'}), {blocker.state} for {blocker.seconds} s"
                    )

    thread = threading.Thread(target=look, name="migrate-blockers")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def _next_after(revision: str | None) -> str | None:
    """None where there is none, or the database is at one that is newer than this code."""
    oldest_first = revisions.revisions(revisions.FOLDER)
    if revision is None:
        return oldest_first[0]
    if revision not in oldest_first:
        return None
    return next(iter(oldest_first[oldest_first.index(revision) + 1 :]), None)


def set_for_role(engine: Engine, config: Settings) -> None:
    """Have PostgreSQL give every session of this role, in this database, what `connect()` does not send along where a
    proxy pools transactions. Raises: WrongSession where it is too old."""
    with engine.begin() as connection:
        check_server(connection.connection.dbapi_connection)
        for name, value in session_settings(config).items():
            connection.exec_driver_sql(_SET_FOR_ROLE.format(name=name, value=value).replace("%", "%%"))


@click.command("migrate", cls=Command, help="Bring the database's tables up to date.")
@with_appcontext
def command() -> None:
    config = settings()
    if config.db_prepare:
        connect(config, "dues migrate").close()
    # Not the application's engine, which refuses sessions that are not set up yet.
    engine = create_engine(DIALECT, poolclass=NullPool, creator=opener(config, "dues migrate"))
    if not config.db_prepare:
        set_for_role(engine, config)
        click.echo("the role has the settings of its sessions: have the proxy reconnect to PostgreSQL")
    migrate(engine, click.echo)
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    newest = revisions.revisions(revisions.FOLDER)[-1]
    newer = "" if found == newest else f", which a newer release has applied: this one brings those up to {newest}"
    click.echo(f"database is at migration {found}{newer}")
