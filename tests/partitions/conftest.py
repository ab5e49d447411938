"""Databases whose tables are partitioned, or are about to be.

`servers`, and with it all that stands on it, has all tables by month here: tests of other folders that are imported
into a module of this one run on them.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from uuid import UUID

import pytest
from flask import Flask
from sqlalchemy import make_url

from api.app import create_app
from config import Settings
from dues.partitions.conversion import convert
from dues.partitions.months import floor_id
from dues.partitions.tables import BY_NAME
from dues.postgres import db
from dues.postgres.changing import Session, changing
from tests import refusals
from tests.factory import Factory
from tests.kept_connections import kept_connections
from tests.recorder import QueryRecorder
from tests.servers import Direct, Servers, create_database, drop_database, partition

_numbers = itertools.count()


@pytest.fixture(scope="session")
def servers(worker_id: str) -> Iterator[Servers]:
    cluster, template = os.environ["DUES_TESTS_CLUSTER"], make_url(os.environ["DUES_TESTS_TEMPLATE"])
    name = f"{template.database}_by_month_{worker_id}"
    create_database(cluster, name, template.database or "")
    url = template.set(database=name).render_as_string(hide_password=False)
    partition(url)
    servers = Servers(cluster, url, f"parts_{worker_id}")
    yield servers
    servers.stop()
    drop_database(cluster, name)


@pytest.fixture(scope="session")
def _app(servers: Servers) -> Iterator[Flask]:
    app = create_app(servers.settings())
    app.testing = False
    app.test_client_class = refusals.Client
    with kept_connections(app):
        yield app


@pytest.fixture(scope="session")
def _recorder(_app: Flask) -> QueryRecorder:
    with _app.app_context():
        return QueryRecorder(db.engine)


class Database:
    """A database of a test's own, whose tables are as migrations have left them."""

    def __init__(self, servers: Servers, url: str) -> None:
        self.url, self._servers = url, servers
        self.direct = Direct(url)
        self.make = Factory(self.direct)

    def settings(self, **changes: object) -> Settings:
        return self._servers.settings(database_url=self.url, **changes)

    def convert(self, table: str, now: datetime | None = None, tell: Callable[[str], None] = lambda _: None) -> None:
        with changing(self.settings(), tell) as session:
            convert(session, BY_NAME[table], now or session.value("select clock_timestamp()"))

    def placed(self, table: str) -> dict[UUID, str]:
        """In which partition each row is, by the id that decides."""
        key = BY_NAME[table].key
        rows = self.make.rows(f"select {key} as key, tableoid::regclass::text as part from {table} order by 1")
        return {row.key: row.part for row in rows}

    def parts(self, table: str) -> list[str]:
        rows = self.make.rows(
            f"select inhrelid::regclass::text as part from pg_inherits i join pg_class c"
            f" on c.oid = i.inhparent where c.relname = '{table}' order by 1"
        )
        return [row.part for row in rows]

    @classmethod
    def made(cls, servers: Servers) -> "Database":
        """A new one. To be closed."""
        template = make_url(os.environ["DUES_TESTS_TEMPLATE"]).database or ""
        name = f"{template}_{os.getpid()}_{next(_numbers)}"
        create_database(servers.database_url, name, template)
        found = cls(servers, make_url(servers.database_url).set(database=name).render_as_string(hide_password=False))
        if found.parts("jobs"):
            found.close()
            pytest.skip("the tables are partitioned already")
        return found

    def close(self) -> None:
        self.direct.close()
        drop_database(self._servers.database_url, make_url(self.url).database or "")


@pytest.fixture
def database(servers: Servers) -> Iterator[Database]:
    with closing(Database.made(servers)) as database:
        yield database


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    with changing(database.settings()) as session:
        yield session


def id_at(moment: datetime, number: int = 1) -> UUID:
    """An id that was made then."""
    return UUID(int=floor_id(moment).int | 7 << 76 | 2 << 62 | number)
