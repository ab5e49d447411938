"""PostgreSQL: how it is connected to, the unit of work, and statements that run alone.

models.py           the base of every table's model
sessions.py         how every connection is opened, and with which settings
sqlstate.py         what an error of the server's means
connection.py       one connection, and the one way to run statements on it
pool.py, engine.py  the pool, and SQLAlchemy's engine and session on it
unit_of_work.py     what one `transaction()` does
transactions.py     `transaction()`, the only place that commits
statements.py       `fetch_row()` and `run_later()`
later.py            the answers of many statements in one message
aio.py              the connections of an event loop
statement_stats.py  how many statements a piece of work sends, and how long they take
constraints.py      what a violated constraint means
patience.py         changing tables that others use
migrate.py          `flask migrate`
command_line.py     how commands of `flask` tell what is refused
revisions.py        whether the database has all migrations
changing.py         the connection that changes tables beside those who use them
spread.py           whether the database is spread over several servers
release.py          whether what was refused comes of tables of another release
"""

from dues.postgres.engine import db, init_db
from dues.postgres.later import fetch_text_later
from dues.postgres.models import Model, Versioned
from dues.postgres.release import wrong_release_of
from dues.postgres.sessions import connect
from dues.postgres.spread import IS_SPREAD, NotAsked, is_spread, lock_some, stores_with
from dues.postgres.sqlstate import NOT_SUPPORTED, STORE_MOVES, Failure, failure_of, sqlstate_of, told
from dues.postgres.statements import array_text, database_now, fetch_row, fetch_row_alone, run_later
from dues.postgres.transactions import (
    after_commit,
    before_commit,
    in_transaction,
    last_before_commit,
    next_to_last_before_commit,
    repeated,
    transaction,
    unit_of_work,
)
from dues.postgres.unit_of_work import UnitOfWork

__all__ = [
    "IS_SPREAD",
    "NOT_SUPPORTED",
    "STORE_MOVES",
    "Failure",
    "Model",
    "NotAsked",
    "UnitOfWork",
    "Versioned",
    "after_commit",
    "array_text",
    "before_commit",
    "connect",
    "database_now",
    "db",
    "failure_of",
    "fetch_row",
    "fetch_row_alone",
    "fetch_text_later",
    "in_transaction",
    "init_db",
    "is_spread",
    "last_before_commit",
    "lock_some",
    "next_to_last_before_commit",
    "repeated",
    "run_later",
    "sqlstate_of",
    "stores_with",
    "told",
    "transaction",
    "unit_of_work",
    "wrong_release_of",
]
