"""A coordinator of Citus and two workers, for `bin/test --citus`: DUES_TEST_CITUS_BIN names the folder of the programs
of a PostgreSQL that has the extension. Nothing here builds or downloads one.
"""

import os
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
from sqlalchemy import make_url

from config import Settings
from dues.postgres.sessions import session_settings
from dues.shards.distribution import SETTINGS
from local.postgres import Postgres

VARIABLE = "DUES_TEST_CITUS_BIN"
_WORKERS = 2
_SETTINGS = {
    "shared_preload_libraries": "citus",
    "wal_level": "logical",
    "max_prepared_transactions": "200",
    "citus.shard_count": "4",
    # What a database is set to is not copied with it.
    **SETTINGS,
}
_AS_ADMINISTRATOR = """
    set citus.override_table_visibility = off; set citus.enable_manual_changes_to_shards = on;
    set session_replication_role = replica
"""
# Shards and what is local, but not the tables that are shown in the place of shards.
_REAL_TABLES = """
    select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind = 'r' and n.nspname in ('public', 'sandbox_gateway')
        and c.oid not in (select logicalrelid from pg_dist_partition)
"""


class _Node(Postgres):
    """One server, which the others may connect to."""

    def __init__(self, home: Path, programs: Path) -> None:
        home.mkdir(mode=0o711)
        config = Settings(database_url="", redis_url="", secret_key="x" * 32)
        settings = session_settings(config) | _SETTINGS
        super().__init__(home, durable=False, programs=programs, settings=settings)

    def _allow_only_us(self) -> None:
        super()._allow_only_us()
        # A server connects to itself as well.
        self._settings = {**self._settings, "citus.local_hostname": self.host}
        lines = "".join(f"dues {self._account} {role}\n" for role in ("dues", "postgres"))
        self._run(["/bin/sh", "-c", 'cat >> "$0"', self._data / "pg_ident.conf"], lines if self._account else "")

    @property
    def host(self) -> str:
        return str(make_url(self.url).query["host"])


class CitusCluster:
    """The servers, and databases that span them."""

    def __init__(self, home: Path) -> None:
        programs = Path(os.environ[VARIABLE])
        self.coordinator = _Node(home / "coordinator", programs)
        self.workers = [_Node(home / f"worker-{number}", programs) for number in range(_WORKERS)]

    @staticmethod
    def is_there() -> bool:
        """Whether there is a PostgreSQL with the extension."""
        programs = os.environ.get(VARIABLE)
        return bool(programs) and (Path(programs or "") / "../lib/postgresql/citus.so").exists()

    @property
    def nodes(self) -> list[_Node]:
        return [self.coordinator, *self.workers]

    def start(self) -> None:
        for node in self.nodes:
            node.start()

    def stop(self) -> None:
        for node in reversed(self.nodes):
            node.stop()
            node.remove()

    def extend(self, database: str) -> None:
        """Have a new database, which is on every server and empty, span them."""
        for node in self.nodes:
            _run(node, database, "create extension citus")
        statements = [f"select citus_set_coordinator_host('{self.coordinator.host}', 5432)"]
        statements += [f"select citus_add_node('{worker.host}', 5432)" for worker in self.workers]
        for statement in statements:
            _run(self.coordinator, database, statement)

    def close(self, database: str) -> None:
        """Have nobody connect to a database any more, Citus' own process included, so that it can be copied."""
        for node in self.nodes:
            _run(node, "postgres", f'alter database "{database}" allow_connections false')
            _run(
                node,
                "postgres",
                f"select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = '{database}'",
            )


class Cleaning:
    """Empties a database on all of its servers, shard by shard, as an administrator: to go through the coordinator
    would take ten times as long, and triggers that keep rows from being deleted cannot be turned off from there."""

    def __init__(self, urls: Iterable[str]) -> None:
        self._connections = [psycopg2.connect(url, user="postgres") for url in urls]
        self._statements: list[str] = []
        for connection in self._connections:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(_AS_ADMINISTRATOR)
                cursor.execute(_REAL_TABLES)
                names = [name for (name,) in cursor.fetchall()]
                self._statements.append("; ".join(f"delete from {name}" for name in names if _is_empty(cursor, name)))

    def clean(self) -> None:
        for connection, statement in zip(self._connections, self._statements, strict=True):
            with connection.cursor() as cursor:
                cursor.execute(statement)

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


def _is_empty(cursor: Any, name: str) -> bool:
    cursor.execute(f"select from {name} limit 1")
    return cursor.fetchone() is None


def drop(url: str, name: str) -> None:
    """Drop a database of one server that Citus' own process may be connected to."""
    with closing(psycopg2.connect(url, user="postgres")) as connection:
        connection.autocommit = True
        connection.cursor().execute(f'drop database if exists "{name}" with (force)')


def _run(node: Postgres, database: str, statement: str) -> None:
    with closing(psycopg2.connect(node.url_of(database), user="postgres")) as connection:
        connection.autocommit = True
        connection.cursor().execute(statement)
