"""The data set: one PostgreSQL and one Redis for all contestants, filled the same way each time."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import psycopg2

from bench.servers import HOME
from config import Settings, sqlalchemy_url
from dues.accounts.actor import SCOPES
from dues.accounts.tokens import hash_token
from dues.app import create_base
from dues.clock import now
from dues.db import db
from dues.ids import new_id
from dues.migrate import migrate
from local.postgres import Postgres
from local.valkey import Valkey

STORES, USERS, PACKAGES = 100, 20_000, 10

# md5 of a number as a UUID: the same rows whenever and wherever this runs.
_FILL = """
insert into users(id, email, name, password_hash)
    select md5('user' || i)::uuid, 'user' || i || '@example.org', 'User Number ' || i, ''
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
insert into payments(store_id, id, user_id, package_id, amount, currency, status, description, payment_method,
        gateway, created_at, updated_at)
    select md5('store' || (1 + i %% %(stores)s))::uuid, md5('payment' || i)::uuid,
        md5('user' || (1 + i %% %(users)s))::uuid,
        md5('package' || (1 + i %% %(stores)s) || '-' || (1 + i %% %(packages)s))::uuid,
        500 + i %% 5000, 'EUR', (array['succeeded', 'succeeded', 'succeeded', 'failed', 'refunded'])[1 + i %% 5],
        'Membership fee number ' || i, 'sandbox_ok', 'sandbox',
        timestamptz '2025-01-01' + i * interval '1 minute', timestamptz '2025-01-01' + i * interval '1 minute'
    from generate_series(1, %(payments)s) i;
"""


@dataclass(frozen=True)
class Data:
    """Where the data is, and a token that may read all of it."""

    database_url: str
    redis_url: str
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
    with psycopg2.connect(os.environ["BENCH_DATABASE_URL"]) as connection, connection.cursor() as cursor:
        cursor.execute("select id::text from stores order by created_at, id limit %s", (count,))
        return [row[0] for row in cursor.fetchall()]


@contextmanager
def serving_data(payments: int) -> Iterator[Data]:
    """Start PostgreSQL and Redis with `payments` payments in 100 stores; what an earlier run left is used again."""
    home = HOME / f"data-{payments}"
    home.mkdir(parents=True, exist_ok=True)
    postgres, valkey = Postgres(home, durable=False), Valkey(home, durable=False)
    postgres.start()
    try:
        valkey.start()
        try:
            yield _fill(postgres.url, valkey.url, payments)
        finally:
            valkey.stop()
    finally:
        postgres.stop()


def _fill(database_url: str, redis_url: str, payments: int) -> Data:
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
            print(f"filling {payments:,} payments …", flush=True)
            cursor.execute(_FILL, {"users": USERS, "stores": STORES, "packages": PACKAGES, "payments": payments})
            cursor.execute("vacuum analyze")
        cursor.execute(
            "insert into api_tokens(id, user_id, name, token_hash, scopes, expires_at)"
            " values (%s, md5('user1')::uuid, 'bench', %s, %s, %s)",
            (str(new_id()), hash_token(token), list(SCOPES), now() + timedelta(days=1)),
        )
        cursor.execute("show server_version")
        version = str((cursor.fetchone() or ("",))[0])
    raw.close()
    engine.dispose()
    os.environ["BENCH_DATABASE_URL"] = database_url
    return Data(database_url, redis_url, token, version, "Valkey or Redis, as started by bin/run")
