"""Migrations find the same tables, whether or not they are partitioned."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url, text

from dues.partitions.tables import TABLES
from dues.postgres import Model
from dues.postgres.migrate import migrate
from tests.partitions.conftest import Database
from tests.partitions.test_conversion import form
from tests.postgres.test_migrations import WITHOUT_MODEL, compared, import_models, migrate_to
from tests.servers import Servers, create_database, drop_database, partition
from urls import sqlalchemy_url

# The newest before indexes, columns, triggers, checks and foreign keys of these tables were changed.
BEFORE = "0023"
# What partitions have apart: tables of keys, and themselves.
_APART = "select relname::text from pg_class where relispartition or relname in ('jobs_live_keys', 'email_sends_keys')"


@pytest.fixture
def engine(servers: Servers) -> Iterator[Engine]:
    """An empty database of the test's own."""
    url = make_url(sqlalchemy_url(servers.database_url))
    name = f"{url.database}_migrations"
    create_database(servers.database_url, name)
    yield create_engine(url.set(database=name), poolclass=NullPool)
    drop_database(servers.database_url, name)


def differences(connection: Connection) -> list[Any]:
    apart = {name for (name,) in connection.execute(text(_APART))} | WITHOUT_MODEL

    def looked_at(name: str | None, kind: str, parents: Any) -> bool:
        return not (kind == "table" and name in apart)

    def compared_here(thing: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
        # PostgreSQL has a foreign key to a partitioned table once more for each of the partitions.
        if kind == "foreign_key_constraint" and {key.column.table.name for key in thing.elements} & apart:
            return False
        return compared(thing, name, kind, reflected, compare_to)

    opts = {"compare_type": True, "include_object": compared_here, "include_name": looked_at}
    return list(compare_metadata(MigrationContext.configure(connection, opts=opts), Model.metadata))


def test_a_database_that_was_partitioned_before_is_brought_up_to_date(engine: Engine, servers: Servers):
    import_models()
    migrate_to(engine, BEFORE)
    url = engine.url.render_as_string(hide_password=False)
    partition(url)
    migrate(engine)
    with engine.connect() as connection:
        assert differences(connection) == []
    migrated = Database(servers, url.replace("+psycopg2", ""))
    with closing(Database.made(servers)) as fresh:
        partition(fresh.url)
        for table in TABLES:
            assert form(migrated, table.name) == form(fresh, table.name)
            parts = migrated.parts(table.name)
            assert len(parts) == 3
            indexes = "select count(*) from pg_indexes where tablename = %(name)s"
            counts = {migrated.make.value(indexes, {"name": part}) for part in parts}
            assert len(counts) == 1, f"partitions of {table.name} have as many indexes as one another"
    migrated.direct.close()
