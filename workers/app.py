"""The application as workers and the relay use it: the business without routes."""

import logging
import time
from collections.abc import Callable

import msgspec
import psycopg2
from flask import Flask

from config import Settings, lookalikes, settings_or_exit
from dues.app import create_base
from dues.postgres import told
from dues.postgres.release import standing

log = logging.getLogger("dues.worker")

# How often a worker or relay looks whether it can begin, in seconds.
_LOOK_EVERY_S = 1.0

# The handler's own, the one that renews its lease, and one for what a handler does beside its transaction.
_CONNECTIONS = 3


def create_worker_app(settings: Settings | None = None) -> Flask:
    """Without `settings` they are the environment's; where those are wrong the process ends with a line about each."""
    settings = settings or settings_or_exit()
    if settings.db_pool_size < _CONNECTIONS:
        settings = msgspec.structs.replace(settings, db_pool_size=_CONNECTIONS)
    return create_base(settings)


def warn_of_lookalikes() -> None:
    """Log what looks as if a setting had been misspelled, as the web server does."""
    for line in lookalikes():
        log.warning("%s", line)


def wait_for_migrations(app: Flask, is_over: Callable[[], bool] = lambda: False) -> None:
    """Return once the database has every migration of this release, or `is_over()`. A job that was begun before would
    fail for want of a table, and be given up after some attempts. What it waits for is logged once."""
    config: Settings = app.extensions["settings"]
    awaited = ""
    while not is_over():
        try:
            found = standing(config)
            what, why = ("migrations", found.told()) if found.is_behind else ("", "")
        except psycopg2.Error as error:
            what, why = "the database", told(error)
        if what != awaited:
            log.warning("waiting for %s: %s", what, why) if what else log.warning("the database is ready: beginning")
        if not what:
            return
        awaited = what
        time.sleep(_LOOK_EVERY_S)
