"""Bring the database's tables up to date, and tell whether they are: `flask --app wsgi migrate`."""

from pathlib import Path

import click
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import Engine, text

from dues.db import db

# Any number that no other advisory lock of Dues uses: two releases at once migrate one after the other.
_LOCK = 0x64756573


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).resolve().parent.parent / "migrations"))
    return config


def migrate(engine: Engine) -> None:
    """Apply every migration that is missing, all or none."""
    config = _config()
    with engine.begin() as connection:
        connection.execute(text("set local statement_timeout = 0"))
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def head() -> str | None:
    """The newest migration this code knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def is_current(engine: Engine) -> bool:
    """Whether the database has exactly the migrations this code was written for."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision() == head()


def init_migrate(app: Flask) -> None:
    @app.cli.command("migrate", help="Bring the database's tables up to date.")
    def migrate_command() -> None:
        migrate(db.engine)
        click.echo(f"database is at migration {head()}")
