"""Rows of the tests, written straight into the tables."""

import json
from functools import partial
from types import SimpleNamespace as Row
from typing import Any

from psycopg2.extras import Json

from tests.servers import Direct


def earlier(columns: str, days: int) -> str:
    """What sets columns of times, named with spaces between, some days back. In UTC, said in this way, for Citus, which
    wants to know that all servers come to the same."""
    each = "{0} = ({0} at time zone 'UTC' - make_interval(days => {1})) at time zone 'UTC'"
    return ", ".join(each.format(name, days) for name in columns.split())


class Tables:
    """Writes rows, each committed at once, and reads them."""

    def __init__(self, direct: Direct) -> None:
        self._direct = direct

    def insert(self, table: str, columns: dict[str, Any]) -> Row:
        """One row of any table. Returns: all of its columns, those that the database filled in too."""
        names = ", ".join(f'"{name}"' for name in columns)
        values = {name: Json(value) if isinstance(value, dict) else value for name, value in columns.items()}
        places = ", ".join(f"%({name})s" for name in columns)
        return self.rows(f"insert into {table}({names}) values ({places}) returning *", values)[0]

    def insert_many(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Rows of one table with the same columns, by one statement."""
        names = ", ".join(f'"{name}"' for name in rows[0])
        self.rows(
            f"insert into {table}({names}) select {names} from json_populate_recordset(null::{table}, %(rows)s)",
            {"rows": Json(rows, dumps=partial(json.dumps, default=str))},
        )

    def rows(self, sql: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        """What a statement returns: for a test that looks into the tables."""
        with self._direct.cursor() as cursor:
            cursor.execute(sql, parameters)
            return [Row(**row) for row in cursor.fetchall()] if cursor.description else []

    def value(self, sql: str, parameters: dict[str, Any] | None = None) -> Any:
        """The one value a statement returns."""
        with self._direct.cursor() as cursor:
            cursor.execute(sql, parameters)
            row = cursor.fetchone()
            assert row is not None
            return next(iter(row.values()))
