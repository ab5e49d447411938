"""What moves with a store is told by the database: no table that has rows of stores is forgotten."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from dues.moves.rows import unknown_tables
from dues.moves.tables import LEFT, PEOPLE, TABLES
from tests.servers import Servers

_FOREIGN_KEYS = """
    select c.conrelid::regclass::text, c.confrelid::regclass::text,
        (select array_agg(a.attname::text) from pg_attribute a
         where a.attrelid = c.conrelid and a.attnum = any(c.conkey))
    from pg_constraint c where c.contype = 'f' and c.conparentid = 0
"""
PLACES = {table.name: place for place, table in enumerate(TABLES) if not table.stays}


@pytest.fixture(scope="module")
def cursor(servers: Servers) -> Iterator[Any]:
    with closing(psycopg2.connect(servers.database_url)) as connection, connection.cursor() as cursor:
        yield cursor


@pytest.fixture(scope="module")
def foreign_keys(cursor: Any) -> list[tuple[str, str, list[str]]]:
    cursor.execute(_FOREIGN_KEYS)
    found: list[tuple[str, str, list[str]]] = cursor.fetchall()
    return found


def test_each_table_with_a_store_moves_or_says_why_not(cursor: Any) -> None:
    assert unknown_tables(cursor) == [], "name it in dues/moves/tables.py"
    cursor.execute("create table coupons(store_id uuid)")
    assert unknown_tables(cursor) == ["coupons"]
    cursor.execute("rollback")
    assert all(LEFT.values())


def test_what_refers_to_a_stores_rows_moves_after_them(foreign_keys: list[tuple[str, str, list[str]]]) -> None:
    for table, target, _ in foreign_keys:
        if target in PLACES and table != target and table not in LEFT:
            assert table in PLACES, f"{table} refers to {target}: name it in dues/moves/tables.py"
            assert PLACES[target] < PLACES[table], f"{table} refers to {target}: it comes after it"


def test_all_people_that_a_stores_rows_name_go_along(foreign_keys: list[tuple[str, str, list[str]]]) -> None:
    people = {(table.name, column) for table in TABLES for column in table.people}
    for table, target, columns in foreign_keys:
        if target == "users" and table in PLACES:
            assert {(table, column) for column in columns} <= people


def test_no_password_leaves() -> None:
    assert set(PEOPLE.computed) == {"password_hash"}
