"""`flask migrate` beside those who use the tables: it makes nobody wait for long, and says what it waits for."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg2
import psycopg2.extensions
import pytest
from sqlalchemy import Engine, NullPool, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError

from dues.postgres import patience, revisions, sqlstate_of
from dues.postgres.migrate import migrate
from tests.servers import Servers, create_database, drop_database, wait_until
from urls import sqlalchemy_url

_MIGRATION = """
from alembic import op

revision = "{number}"
down_revision = {before!r}


def upgrade():
    op.execute({sql!r})
"""


class Project:
    """Migrations of a test's own, for a database of its own."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self._folder, self.engine = folder, engine
        self._count = 0
        (folder / "versions").mkdir()
        shutil.copy(revisions.FOLDER / "env.py", folder)

    def add(self, sql: str) -> None:
        before = f"{self._count:04}" if self._count else None
        self._count += 1
        number = f"{self._count:04}"
        file = self._folder / "versions" / f"{number}_test.py"
        file.write_text(_MIGRATION.format(number=number, before=before, sql=sql))
        revisions.revisions.cache_clear()

    def columns(self) -> set[str]:
        """Those of the table that is migrated."""
        select = "select column_name from information_schema.columns where table_name = 'things'"
        with self.engine.connect() as connection:
            return set(connection.execute(text(select)).scalars())

    def connect(self) -> psycopg2.extensions.connection:
        url = self.engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg2.connect(url, application_name="nightly dump")


@pytest.fixture
def project(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """Has a table `things`; locks are waited for shortly."""
    url = make_url(sqlalchemy_url(servers.database_url))
    name = f"{url.database}_project"
    create_database(servers.database_url, name)
    engine = create_engine(url.set(database=name), poolclass=NullPool)
    project = Project(tmp_path, engine)
    monkeypatch.setattr(revisions, "FOLDER", tmp_path)
    monkeypatch.setattr(patience, "LOCK_TIMEOUT_S", 0.3)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.1)
    project.add("create table things(id int)")
    migrate(engine)
    yield project
    revisions.revisions.cache_clear()
    drop_database(servers.database_url, name)


def test_readers_pass_while_it_waits_for_one_who_stays(project: Project) -> None:
    """As behind a dump, or a report that takes an hour: those who come later do not wait as long."""
    project.add("alter table things add column colour text")
    told: list[str] = []
    with closing(project.connect()) as dump, closing(project.connect()) as reader:
        dump.cursor().execute("select * from things")
        pid = dump.info.backend_pid
        reader.autocommit = True
        migration = threading.Thread(target=migrate, args=(project.engine, told.append))
        migration.start()
        wait_until(lambda: any("trying again" in line for line in told), 20, "a first try")
        for _ in range(5):
            reader.cursor().execute("set statement_timeout = '5s'; select * from things")
        assert "colour" not in project.columns()
        dump.rollback()
        migration.join(30)
    assert "colour" in project.columns()
    waiting = next(line for line in told if line.startswith("waiting for"))
    assert f"process {pid} of PostgreSQL" in waiting
    assert "nightly dump), idle in transaction for" in waiting


def test_it_gives_up_in_the_end(project: Project) -> None:
    project.add("alter table things add column colour text")
    with closing(project.connect()) as dump:
        dump.cursor().execute("select * from things")
        with pytest.raises(DBAPIError) as given_up:
            migrate(project.engine, give_up_after_s=0)
    assert sqlstate_of(given_up.value) == "55P03"
    assert project.columns() == {"id"}


def test_each_migration_stays_though_the_next_fails(project: Project) -> None:
    project.add("alter table things add column colour text")
    project.add("alter table things add column colour text")
    with pytest.raises(DBAPIError, match="already exists"):
        migrate(project.engine)
    assert project.columns() == {"id", "colour"}


def test_two_releases_at_once_apply_each_migration_once(project: Project) -> None:
    for number in range(6):
        project.add(f"alter table things add column c{number} int")
    told: list[str] = []
    releases = [threading.Thread(target=migrate, args=(project.engine, told.append)) for _ in range(2)]
    for release in releases:
        release.start()
    for release in releases:
        release.join(60)
    assert project.columns() == {"id", *(f"c{number}" for number in range(6))}
    assert sorted(line for line in told if line.startswith("applying")) == [
        f"applying migration {number:04}" for number in range(2, 8)
    ]
