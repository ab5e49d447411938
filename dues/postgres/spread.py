"""Whether the database may be spread over several servers, which Citus does below PostgreSQL's own protocol."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakKeyDictionary

from sqlalchemy import Engine, Select
from sqlalchemy.orm import InstrumentedAttribute

from dues.postgres.engine import db
from dues.postgres.statements import fetch_row

T = TypeVar("T")

# A condition for any statement.
IS_SPREAD = "exists (select from pg_extension where extname = 'citus')"

_ASK = f"select {IS_SPREAD}"
# What is known of it.
is_spread_by_engine: WeakKeyDictionary[Engine, bool] = WeakKeyDictionary()


class NotAsked(Exception):
    """An event loop wants to know whether the database may be spread, which nobody has asked in this process: it is to
    run `sql` in its own way, have its row `answered()`, and begin again."""

    sql = _ASK

    @staticmethod
    def answered(row: tuple[object, ...] | None) -> None:
        is_spread_by_engine[db.engine] = bool(row and row[0])


def is_spread() -> bool:
    """Whether it may be: Citus takes no statement that needs rows of two servers at once. Asked once in the life of a
    process. Raises, on an event loop, which must not wait for PostgreSQL here: NotAsked."""
    engine = db.engine
    if engine not in is_spread_by_engine:
        if _is_on_loop():
            raise NotAsked
        NotAsked.answered(fetch_row(_ASK, {}))
    return is_spread_by_engine[engine]


def stores_with(rows: str, values: Mapping[str, Any]) -> Iterable[UUID | None]:
    """The stores with `rows` (`table t where …`), to be gone through one after the other where the database is spread:
    Citus locks rows of many servers in no statement. Else None alone, which stands for all stores at once."""
    if not is_spread():
        return (None,)
    found = fetch_row(f"select array_agg(s.id::text) from (select distinct t.store_id as id from {rows}) s", values)
    return [UUID(each) for each in (found and found[0]) or ()]


def lock_some(query: Select[T], store: InstrumentedAttribute[UUID], most: int) -> list[T]:
    """Objects that `query` finds, `most` of them, locked but for those that somebody else has locked; of one store
    after the other where the database is spread. `store` is the column that has each one's."""
    stores = db.session.scalars(query.with_only_columns(store).distinct()).all() if is_spread() else (None,)
    locked: list[T] = []
    for store_id in stores:
        if len(locked) == most:
            break
        of_store = query if store_id is None else query.where(store == store_id)
        locked += db.session.scalars(of_store.limit(most - len(locked)).with_for_update(skip_locked=True))
    return locked


def _is_on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
