"""The base application: configuration, database and commands, no routes.

Workers, the relay and the command line use it as it is; `api/app.py` adds the routes.
"""

from collections.abc import Callable
from typing import Any

from flask import Flask

from config import Settings, load_settings
from dues.observability.trace import start_spans
from dues.postgres import init_db
from dues.postgres.migrate import init_migrate
from dues.reads.freshness import init_cache
from dues.slices import load

# Imported for the functions that they register, which have to be called in whichever process the cause of it is.
HOOKS = tuple(load("hooks"))


class Base(Flask):
    """Flask, all of whose views and hooks are plain functions: it need not look for coroutines among them each time."""

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        return func


def create_base(settings: Settings | None = None) -> Flask:
    """A Flask application around the business, with `app.extensions["settings"]` set.

    Raises: ConfigError when `settings` is not given and the environment's are wrong.
    """
    settings = settings or load_settings()
    start_spans()
    app = Base("dues", static_folder=None)
    app.extensions["settings"] = settings
    app.config["SECRET_KEY"] = settings.secret_key
    init_db(app, settings)
    init_cache(app, settings)
    init_migrate(app)
    for module in load("commands"):
        app.cli.add_command(module.command)
    return app
