"""Bring the database's tables up to date, and tell whether they are: `flask --app wsgi migrate`."""

from functools import cache
from pathlib import Path

import click
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask
from sqlalchemy import Engine, text

from dues.postgres.orm import db

# Any number that no other advisory lock of Dues uses: two releases at once migrate one after the other.
_LOCK = 0x64756573


def alembic_config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).resolve().parents[2] / "migrations"))
    return config


def migrate(engine: Engine) -> None:
    """Apply every migration that is missing, all or none."""
    config = alembic_config()
    with engine.begin() as connection:
        connection.execute(text("set local statement_timeout = 0"))
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


@cache
def _revisions() -> tuple[str, ...]:
    """Every migration this code knows, the newest first."""
    return tuple(script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions())


def head() -> str:
    """The newest migration this code knows."""
    return _revisions()[0]


def is_current(engine: Engine) -> bool:
    """Whether the database has every migration this code was written for.

    It may have later ones: they are applied before the release that brings them takes over from this one.
    """
    with engine.connect() as connection:
        revision = MigrationContext.configure(connection).get_current_revision()
    return revision is not None and revision not in _revisions()[1:]


def init_migrate(app: Flask) -> None:
    @app.cli.command("migrate", help="Bring the database's tables up to date.")
    def migrate_command() -> None:
        migrate(db.engine)
        click.echo(f"database is at migration {head()}")
