"""The base application: configuration, database and commands, no routes.

Workers, the relay and the command line use it as it is; `api/app.py` adds the routes.
"""

import sys
from collections.abc import Callable
from typing import Any

import click
from flask import Flask
from flask.cli import AppGroup

from config import ConfigError, Settings, settings_or_exit
from dues.cells.signatures import check_cells
from dues.mail.address import check_sender
from dues.observability.otel import start_spans
from dues.postgres import init_db
from dues.reads.freshness import init_cache
from dues.slices import load

# Imported for the functions that they register, which have to be called in whichever process the cause of it is.
HOOKS = tuple(load("hooks"))


class Commands(AppGroup):
    """The commands of `flask`. Their modules are imported when one is asked for: no other process needs them, nor what
    they import (Alembic takes a tenth of a second)."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        self._load()
        return super().get_command(ctx, cmd_name)

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._load()
        return super().list_commands(ctx)

    def _load(self) -> None:
        for module in load("commands"):
            self.add_command(module.command)


class Base(Flask):
    """Flask, all of whose views and hooks are plain functions: it need not look for coroutines among them each time."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_base(settings: Settings | None = None) -> Flask:
    """A Flask application around the business, with `app.extensions["settings"]` set.

    Without `settings` they are the environment's. Where those are wrong, or OTEL_*, which always are the environment's,
    the process ends with a line about it.
    """
    settings = settings or settings_or_exit()
    try:
        check_sender(settings)
        check_cells(settings)
        start_spans()
    except ConfigError as error:
        sys.exit(error.message)
    app = Base("dues", static_folder=None)
    app.cli = Commands(app.name)
    app.extensions["settings"] = settings
    app.config["SECRET_KEY"] = settings.secret_key
    init_db(app, settings)
    init_cache(app, settings)
    return app
