"""The engine: Flask-SQLAlchemy's, on a pool of our own. Its connections are in autocommit mode, so that what only reads
costs one round trip and leaves nothing open; a unit of work begins and ends its transaction itself.
"""

from typing import Any

import ujson
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from flask_sqlalchemy.session import Session as FlaskSession
from sqlalchemy import Connection, Engine

from config import Settings
from dues.postgres.pool import MeasuredPool, watch
from dues.postgres.sessions import DIALECT, opener
from dues.postgres.statement_stats import count_statements_of
from dues.postgres.unit_of_work import present_work


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
    """Give `app` its engine. Nothing is connected before it is used."""
    app.config["SQLALCHEMY_DATABASE_URI"] = DIALECT
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = {
        "isolation_level": "AUTOCOMMIT",
        "poolclass": MeasuredPool,
        "pool_size": config.db_pool_size,
        "max_overflow": 0,
        "pool_timeout": config.db_pool_timeout_s,
        "pool_use_lifo": True,
        # What a statement was given may be a secret, and its error goes into the logs.
        "hide_parameters": True,
        "json_serializer": lambda value: ujson.dumps(value, allow_nan=False, escape_forward_slashes=False),
        "json_deserializer": ujson.loads,
        "creator": opener(config),
    }
    db.init_app(app)
    with app.app_context():
        count_statements_of(db.engine)
        watch(db.engine, config)
