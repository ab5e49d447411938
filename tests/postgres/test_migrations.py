"""Migrations: they lead to the tables that the models describe, and lead back."""

import importlib
import pkgutil
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, NullPool, create_engine, make_url, text

import dues
from dues.ids import new_id
from dues.postgres import Model
from dues.postgres.migrate import alembic_config, migrate
from dues.postgres.revisions import FOLDER, Standing, revisions, standing_of
from tests.servers import Servers, create_database, drop_database
from urls import sqlalchemy_url

# Written and read with SQL alone.
WITHOUT_MODEL = {
    "store_moves",
    "store_places",
    "idempotency_keys",
    "schedule_ticks",
    "cache_switch",
    "circuit_breakers",
    "document_series",
    "relay_looks",
    "replica_mark",
    "account_codes",
    "account_attempts",
    "follow_stats",
    "post_packages",
    "post_stat_shards",
    "post_stats",
    "mailing_recipients",
    "mail_suppressions",
    "mail_domains",
    "sync_changes",
    "sync_operations",
}


# From here on a release may go on beside the next; those before were never deployed beside one another.
FIRST_RELEASE = "0021"


@contextmanager
def database_of(servers: Servers, suffix: str, template: str = "template1") -> Iterator[Engine]:
    url = make_url(sqlalchemy_url(servers.database_url))
    name = f"{url.database}_{suffix}"
    create_database(servers.database_url, name, template)
    yield create_engine(url.set(database=name), poolclass=NullPool)
    drop_database(servers.database_url, name)


@pytest.fixture
def engine(servers: Servers) -> Iterator[Engine]:
    """An empty database of the test's own."""
    with database_of(servers, "migrations") as engine:
        yield engine


class Migrated:
    """A database with all migrations, which tests leave as it is, and what each release could rest on. All of them
    take seconds."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        migrate_to(engine, FIRST_RELEASE)
        self.promised = {FIRST_RELEASE: promised(engine)}
        for revision in [each for each in revisions(FOLDER) if each > FIRST_RELEASE]:
            migrate_to(engine, revision)
            self.promised[revision] = promised(engine)


@pytest.fixture(scope="module")
def migrated(servers: Servers) -> Iterator[Migrated]:
    with database_of(servers, "migrated") as engine:
        yield Migrated(engine)


def import_models() -> None:
    for package in pkgutil.walk_packages(dues.__path__, "dues."):
        if package.name.endswith(".models"):
            importlib.import_module(package.name)


def compared(thing: Any, name: str | None, kind: str, reflected: bool, compare_to: Any) -> bool:
    """Indexes and unique keys are the migrations' own: partial, covering and by expression, models cannot say them."""
    return kind not in ("index", "unique_constraint") and not (kind == "table" and name in WITHOUT_MODEL)


def reflected_at_all(name: str | None, kind: str, parents: Any) -> bool:
    """Not even looked at: SQLAlchemy knows no xid8."""
    return not (kind == "table" and name in WITHOUT_MODEL)


def differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "include_object": compared, "include_name": reflected_at_all}
    )
    return list(compare_metadata(context, Model.metadata))


def test_models_describe_the_migrated_tables(migrated: Migrated) -> None:
    import_models()
    with migrated.engine.connect() as connection:
        assert differences(connection) == []


def test_a_column_that_only_one_side_knows_is_noticed(migrated: Migrated) -> None:
    import_models()
    # What is not committed is gone with the connection.
    with migrated.engine.connect() as connection:
        connection.execute(text("alter table packages add column colour text"))
        connection.execute(text("alter table users alter column name drop not null"))
        assert len(differences(connection)) == 2


def schema(engine: Engine) -> list[tuple[Any, ...]]:
    """Everything in the database that a migration can make: columns, constraints, indexes, functions."""
    statement = """
        select 'column', table_schema || '.' || table_name, column_name, data_type || is_nullable
            || coalesce(column_default, '')
        from information_schema.columns where table_schema not in ('pg_catalog', 'information_schema')
        union all select 'index', schemaname || '.' || tablename, indexname, indexdef
        from pg_indexes where schemaname not in ('pg_catalog', 'information_schema')
        union all select 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid)
        from pg_constraint where connamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
        union all select 'function', proname, '', prosrc from pg_proc where pronamespace = 'public'::regnamespace
        order by 1, 2, 3, 4
    """
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement)) if "alembic_version" not in row[1]]


def test_up_down_and_up_again(servers: Servers, engine: Engine, migrated: Migrated) -> None:
    empty, whole = schema(engine), schema(migrated.engine)
    assert len(whole) > len(empty)
    with database_of(servers, "down_and_up", migrated.engine.url.database or "") as again:
        with again.begin() as connection:
            config = alembic_config()
            config.attributes["connection"] = connection
            command.downgrade(config, "base")
        assert schema(again) == empty
        migrate(again)
        assert schema(again) == whole


def test_migrating_twice_changes_nothing(migrated: Migrated) -> None:
    whole = schema(migrated.engine)
    migrate(migrated.engine)
    assert schema(migrated.engine) == whole


def test_the_names_of_the_files_are_the_chain_of_migrations():
    chain = [script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()]
    assert list(revisions(FOLDER)) == chain[::-1]


def test_where_a_database_stands(engine: Engine, migrated: Migrated) -> None:
    newest = revisions(FOLDER)[-1]
    with closing(engine.raw_connection()) as connection:
        assert standing_of(connection) == Standing(None, newest, is_behind=True, is_ahead=False)
    for found, is_behind, is_ahead in ((newest, False, False), ("0001", True, False), ("of the next", False, True)):
        # What is not committed is gone with the connection.
        with closing(migrated.engine.raw_connection()) as connection:
            connection.cursor().execute("update alembic_version set version_num = %s", (found,))
            assert standing_of(connection) == Standing(found, newest, is_behind, is_ahead)


def promised(engine: Engine) -> dict[str, str]:
    """What the statements of a release rest on: relations, columns by their types, functions, and which columns must be
    given a value."""
    statement = """
        select 'relation ' || relname, '' from pg_class
        where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v')
        union all select 'column ' || table_name || '.' || column_name, data_type
        from information_schema.columns where table_schema in ('public', 'sandbox_gateway')
        union all select 'function ' || proname, '' from pg_proc where pronamespace = 'public'::regnamespace
        union all select 'optional ' || table_name || '.' || column_name, ''
        from information_schema.columns where table_schema in ('public', 'sandbox_gateway')
            and (is_nullable = 'YES' or column_default is not null)
    """
    with engine.connect() as connection:
        return {str(name): str(value) for name, value in connection.execute(text(statement))}


def test_a_release_goes_on_with_the_migrations_of_the_next(migrated: Migrated) -> None:
    """Whatever its statements rest on stays as it was: new tables, and columns that need no value, do no harm."""
    taken: dict[str, set[str]] = {}
    for (_, before), (revision, after) in pairwise(migrated.promised.items()):
        lost = {name for name, value in before.items() if after.get(name) != value}
        known = {name.split()[1].partition(".")[0] for name in before if name.startswith("relation ")}
        demanded = {
            name.replace("column", "demanded", 1)
            for name in after.keys() - before.keys()
            if name.startswith("column ")
            and name.split()[1].partition(".")[0] in known
            and name.replace("column", "optional", 1) not in after
        }
        if lost | demanded:
            taken[revision] = lost | demanded
    assert taken == {}


def migrate_to(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def test_accounts_from_before_normal_addresses_can_all_log_in(engine, caplog: pytest.LogCaptureFixture):
    """Each row: the address, and the normal form it gets. Rows are as old as they stand here."""
    accounts = [
        ("Ada@Example.com", "ada@example.com"),
        ("a@bücher.example", "a@bücher.example"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        ("José@example.com", "josé@example.com"),
        ("Jose\u0301@example.com", "jose\u0301@example.com"),
        ("root@localhost", "root@localhost"),
    ]
    migrate_to(engine, "0005")
    insert = text("""
        insert into users(id, email, name, password_hash, created_at)
        values (:id, :email, 'A', '', now() + :age * interval '1 s')
    """)
    ids = [new_id() for _ in accounts]
    with engine.begin() as connection:
        for age, (id_, (email, _)) in enumerate(zip(ids, accounts, strict=True)):
            connection.execute(insert, {"id": id_, "email": email, "age": age})
    with caplog.at_level("WARNING", logger="dues.migrations"):
        migrate_to(engine, "0006")
    with engine.begin() as connection:
        kept = connection.execute(text("select email, email_normal from users order by created_at")).all()
        # What a process of the release before inserts.
        connection.execute(insert, {"id": new_id(), "email": "Old@example.com", "age": 9})
        assert connection.scalar(text("select email_normal from users where name = 'A' order by created_at desc")) == (
            "old@example.com"
        )
    assert [tuple(row) for row in kept] == accounts
    impossible, shared = (record.getMessage() for record in caplog.records)
    assert impossible.endswith(str(ids[5]))
    assert {str(ids[1]), str(ids[4])} == set(re.findall("[0-9a-f-]{36}", shared))


def test_money_from_before_stands_under_the_time_at_which_it_moved(engine):
    migrate_to(engine, "0015")
    january, february, march = (datetime(2026, month, 15, tzinfo=UTC) for month in (1, 2, 3))
    user, store, refund, failed = (new_id() for _ in range(4))
    payments = {status: new_id() for status in ("succeeded", "refunded", "failed", "pending", "partially_refunded")}
    with engine.begin() as connection:

        def insert(table: str, **columns: Any) -> None:
            names, places = ", ".join(columns), ", ".join(f":{name}" for name in columns)
            connection.execute(text(f"insert into {table}({names}) values ({places})"), columns)

        insert("users", id=user, email="a@example.com", name="A", password_hash="")
        insert("stores", id=store, owner_id=user, name="A", slug="a", currency="EUR")
        paid = {"store_id": store, "user_id": user, "amount": 9, "currency": "EUR", "payment_method": "", "gateway": ""}
        for status, payment in payments.items():
            insert("payments", id=payment, status=status, created_at=january, **paid)
            # Of one there is no record but itself.
            if status in ("succeeded", "refunded"):
                of = {"store_id": store, "payment_id": payment, "reason": "charged"}
                insert("payment_events", id=new_id(), to_status="processing", created_at=january, **of)
                insert("payment_events", id=new_id(), to_status="succeeded", created_at=february, **of)
        whole = {"store_id": store, "payment_id": payments["refunded"], "amount": 9, "currency": "EUR"}
        insert("refunds", id=refund, status="succeeded", updated_at=march + timedelta(days=1), **whole)
        insert("refunds", id=failed, status="failed", updated_at=march, **whole)
        insert("refunds", id=new_id(), status="pending", **whole)
        of = {"store_id": store, "payment_id": payments["refunded"], "reason": f"refund {refund}"}
        insert("payment_events", id=new_id(), to_status="refunded", created_at=march, **of)
    migrate_to(engine, "0016")
    with engine.begin() as connection:
        kept = connection.execute(text("select status, paid_at from payments")).all()
        assert {row.status: row.paid_at for row in kept} == {
            "succeeded": february,
            "refunded": february,
            "partially_refunded": january,
            "failed": None,
            "pending": None,
        }
        settled = connection.execute(text("select status, settled_at from refunds")).all()
        assert {row.status: row.settled_at for row in settled} == {"succeeded": march, "failed": march, "pending": None}
        # What a process of the release before goes on to write.
        connection.execute(
            text("update payments set status = 'succeeded', updated_at = :at where status = 'pending'"), {"at": march}
        )
        connection.execute(
            text("update refunds set status = 'failed', updated_at = :at where status = 'pending'"), {"at": january}
        )
        pending = {"id": payments["pending"]}
        assert connection.scalar(text("select paid_at from payments where id = :id"), pending) == march
        assert connection.scalar(text("select count(*) from refunds where settled_at is null")) == 0
