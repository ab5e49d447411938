"""The data set: one PostgreSQL and one Redis for all contestants, always filled with the same rows."""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from hashlib import md5
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

import psycopg2

from bench.servers import HOME
from config import Settings
from dues.accounts.actor import SCOPES
from dues.accounts.tokens import hash_token
from dues.app import create_base
from dues.clock import now
from dues.ids import new_id
from dues.postgres import db
from dues.postgres.migrate import migrate
from local.postgres import Postgres
from local.valkey import Valkey
from urls import sqlalchemy_url

STORES, USERS, PACKAGES = 100, 20_000, 10
# Inserting more rows than this is faster without indexes and foreign keys, which are created afterwards.
_MANY = 200_000

# Ids are the md5 of a number, so the rows are the same in every run.
_FILL = """
insert into users(id, email, name, password_hash, email_verified_at)
    select md5('user' || i)::uuid, 'user' || i || '@example.org', 'User Number ' || i, '', now()
    from generate_series(1, %(users)s) i;
insert into stores(id, owner_id, name, slug, currency)
    select md5('store' || i)::uuid, md5('user1')::uuid, 'Store ' || i, 'store-' || i, 'EUR'
    from generate_series(1, %(stores)s) i;
insert into store_staff(store_id, user_id, id, role)
    select md5('store' || i)::uuid, md5('user1')::uuid, md5('staff' || i)::uuid, 'owner'
    from generate_series(1, %(stores)s) i;
insert into packages(store_id, id, name, description, amount, currency, interval)
    select md5('store' || s)::uuid, md5('package' || s || '-' || p)::uuid, 'Package ' || p,
        'What members of store ' || s || ' get with package ' || p, p * 500, 'EUR', 'month'
    from generate_series(1, %(stores)s) s, generate_series(1, %(packages)s) p;
"""
# With `paid_at` where it was paid, as a trigger has it that is off while many rows are inserted.
_FILL_PAYMENTS = """
insert into payments(store_id, id, user_id, package_id, amount, currency, status, description, payment_method,
        gateway, created_at, updated_at, paid_at)
    select md5('store' || (1 + i %% %(stores)s))::uuid, md5('payment' || i)::uuid,
        md5('user' || (1 + i %% %(users)s))::uuid,
        md5('package' || (1 + i %% %(stores)s) || '-' || (1 + i %% %(packages)s))::uuid,
        500 + i %% 5000, 'EUR', (array['succeeded', 'succeeded', 'succeeded', 'failed', 'refunded'])[1 + i %% 5],
        'Membership fee number ' || i, 'sandbox_ok', 'sandbox',
        timestamptz '2025-01-01' + i * interval '1 minute', timestamptz '2025-01-01' + i * interval '1 minute',
        case when i %% 5 <> 3 then timestamptz '2025-01-01' + i * interval '1 minute' end
    from generate_series(1, %(payments)s) i;
"""
_SWITCH = """
    insert into cache_switch(generation, "on", settled) values (%(generation)s, %(on)s, not %(on)s)
    on conflict (one) do update set generation = excluded.generation, "on" = excluded."on", settled = excluded.settled
"""


@dataclass(frozen=True)
class Data:
    """Where the data is, PostgreSQL's log file, and a token that may read all of it."""

    database_url: str
    redis_url: str
    log: Path
    token: str
    postgres_version: str
    redis_version: str

    def environ(self) -> dict[str, str]:
        """Settings of a Dues process on this data."""
        return {
            "DATABASE_URL": self.database_url,
            "REDIS_URL": self.redis_url,
            "SECRET_KEY": "only for benchmarks, where nothing is secret",
            "DUES_HOME": str(HOME),
            "RATE_LIMIT": "100000000/60",
            "LOG_LEVEL": "warning",
            "PYTHONPATH": str(Path(__file__).resolve().parent.parent),
        }

    def peer_environ(self) -> dict[str, str]:
        bare = self.database_url.replace("postgresql+psycopg2", "postgresql")
        return {
            "PEER_DATABASE_URL": sqlalchemy_url(self.database_url),
            "PEER_ASYNC_DATABASE_URL": bare.replace("postgresql", "postgresql+asyncpg", 1),
            "PEER_REDIS_URL": self.redis_url,
            "PYTHONPATH": str(Path(__file__).resolve().parent),
        }


def store_ids(count: int = STORES) -> list[str]:
    return [str(UUID(md5(f"store{number}".encode()).hexdigest())) for number in range(1, count + 1)]


@contextmanager
def serving_data(payments: int, stores: int = STORES, *, cached: bool = True) -> Iterator[Data]:
    """Start PostgreSQL and Redis with `payments` payments in `stores` stores. Data left by an earlier run is used
    again.

    Unless `cached`, the cache's switch is off, as it is while Redis cannot be reached.
    """
    home = HOME / (f"data-{payments}" if stores == STORES else f"data-{payments}-in-{stores}")
    with bare_servers(home, durable=False) as (database_url, redis_url):
        yield _fill(home, database_url, redis_url, payments, stores, cached)


@contextmanager
def serving_new_data(payments: int) -> Iterator[Data]:
    """The same for writing: new each time, and as safe against power failures as in production."""
    home = HOME / "data-for-writing"
    with bare_servers(home, durable=True, kept=False) as (database_url, redis_url):
        yield _fill(home, database_url, redis_url, payments, STORES, cached=True)


@contextmanager
def bare_servers(
    home: Path, *, durable: bool, kept: bool = True, settings: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[str, str]]:
    """The URLs of a PostgreSQL with these `settings` and of a Redis, both with their files below `home`."""
    home.mkdir(parents=True, exist_ok=True)
    postgres, valkey = Postgres(home, durable=durable, settings=settings), Valkey(home, durable=durable)
    postgres.start()
    try:
        valkey.start()
        try:
            yield postgres.url, valkey.url
        finally:
            valkey.stop()
    finally:
        postgres.stop()
        if not kept:
            postgres.remove()


@contextmanager
def unindexed(cursor: psycopg2.extensions.cursor, table: str = "payments") -> Iterator[None]:
    """Insert many rows without the table's indexes, foreign keys and triggers; afterwards these are as before. The rows
    are not recorded as changes for clients that sync."""
    cursor.execute(
        "select conname, pg_get_constraintdef(oid) from pg_constraint"
        f" where conrelid = '{table}'::regclass and contype = 'f' and conparentid = 0"
    )
    keys = cursor.fetchall()
    cursor.execute(
        "select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid) from pg_index i"
        f" where i.indrelid = '{table}'::regclass and not i.indisunique"
    )
    indexes = cursor.fetchall()
    for name, _ in keys:
        cursor.execute(f"alter table {table} drop constraint {name}")
    for name, _ in indexes:
        cursor.execute(f"drop index {name}")
    cursor.execute(f"alter table {table} disable trigger user")
    yield
    cursor.execute(f"alter table {table} enable trigger user")
    cursor.execute("set maintenance_work_mem = '512MB'")
    for _, definition in indexes:
        # For tables that are partitioned by month: the index on the table creates those on its partitions.
        cursor.execute(definition.replace(" ON ONLY ", " ON "))
    for name, definition in keys:
        cursor.execute(f"alter table {table} add constraint {name} {definition}")


def _fill(home: Path, database_url: str, redis_url: str, payments: int, stores: int, cached: bool) -> Data:
    def fill(cursor: psycopg2.extensions.cursor) -> None:
        print(f"filling {payments:,} payments …", flush=True)
        counts = {"users": USERS, "stores": stores, "packages": PACKAGES, "payments": payments}
        cursor.execute("begin")
        cursor.execute(_FILL, counts)
        with unindexed(cursor) if payments > _MANY else nullcontext():
            cursor.execute(_FILL_PAYMENTS, counts)
        cursor.execute("commit")

    return make_ready(home, database_url, redis_url, fill, cached=cached)


def make_ready(
    home: Path,
    database_url: str,
    redis_url: str,
    fill: Callable[[psycopg2.extensions.cursor], None],
    *,
    cached: bool = True,
) -> Data:
    """Migrate a database, `fill` it if it is empty, and give its first user a token."""
    settings = Settings(database_url=database_url, redis_url=redis_url, secret_key="k" * 32, db_statement_timeout_s=600)
    with create_base(settings).app_context():
        migrate(db.engine)
        engine = db.engine
    raw = psycopg2.connect(database_url)
    raw.autocommit = True
    token = "dues_" + secrets.token_urlsafe(32)
    with raw.cursor() as cursor:
        cursor.execute("select count(*) from stores")
        if cursor.fetchone() == (0,):
            fill(cursor)
        # Each time: a vacuum cannot mark rows as visible to all while an older transaction is running, and then counts
        # have to read the table.
        cursor.execute("vacuum analyze")
        cursor.execute(
            "insert into api_tokens(id, user_id, name, token_hash, scopes, expires_at)"
            " values (%s, md5('user1')::uuid, 'bench', %s, %s, %s)",
            (str(new_id()), hash_token(token), list(SCOPES), now() + timedelta(days=1)),
        )
        # A PostgreSQL that was killed loses the switch, which then counts as off.
        cursor.execute(_SWITCH, {"on": cached, "generation": secrets.randbits(62)})
        cursor.execute("show server_version")
        version = str((cursor.fetchone() or ("",))[0])
    raw.close()
    engine.dispose()
    return Data(
        database_url, redis_url, home / "log" / "postgres.log", token, version, "Valkey or Redis, as started by bin/run"
    )
