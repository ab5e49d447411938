"""PostgreSQL: the connection pool, the unit of work, and statements that run alone.

orm.py              models, the pool, `transaction()` (the only place that commits), `fetch_row()` and `run_later()`
unit_of_work.py     what one `transaction()` does: its connection, and several statements in one message
pool.py             the pool, measured
prepared.py         statements that recur, prepared on the server
aio.py              the connections of an event loop
statement_stats.py  how many statements a piece of work sends, and how long they take
constraints.py      what a violated constraint means
migrate.py          `flask migrate`
"""

from dues.postgres.orm import (
    Model,
    Versioned,
    after_commit,
    before_commit,
    database_now,
    db,
    driver_url,
    fetch_row,
    fetch_row_alone,
    in_transaction,
    init_db,
    last_before_commit,
    run_later,
    session_options,
    transaction,
    unit_of_work,
)
from dues.postgres.unit_of_work import UnitOfWork

__all__ = [
    "Model",
    "UnitOfWork",
    "Versioned",
    "after_commit",
    "before_commit",
    "database_now",
    "db",
    "driver_url",
    "fetch_row",
    "fetch_row_alone",
    "in_transaction",
    "init_db",
    "last_before_commit",
    "run_later",
    "session_options",
    "transaction",
    "unit_of_work",
]
