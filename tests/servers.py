"""The real servers that tests run on.

Each process of tests has a PostgreSQL, a Valkey and a mail server of its own: a transaction that one test holds open
keeps what all others on its PostgreSQL read from being cached. DUES_TEST_DATABASE_URL and DUES_TEST_REDIS_URL name
servers to use instead; DUES_TEST_POSTGRES names a folder of PostgreSQL programs (say /usr/lib/postgresql/15/bin) to
start instead of the wheel's, and `--postgres 14` has them from npm (tests/postgres_versions.py).
"""

import contextlib
import json
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import redis
from psycopg2.extras import RealDictCursor
from sqlalchemy import NullPool, create_engine, make_url

from config import Settings
from dues.partitions.catalog import is_partitioned
from dues.partitions.conversion import convert
from dues.partitions.tables import TABLES
from dues.partitions.upkeep import make_ahead
from dues.postgres.changing import changing
from dues.postgres.migrate import migrate
from dues.redis.wire import Address, CacheAway, Pool
from dues.shards.distribution import distribute, plan_for
from local.mailsink import MailSink
from local.postgres import Postgres
from local.process import Server
from local.valkey import Valkey
from tests.citus_cluster import CitusCluster, Cleaning, drop
from tests.cleaning import AS_ADMINISTRATOR, make_cleaning
from tests.kept_connections import is_live
from urls import sqlalchemy_url

_TEMPLATE = f"dues_tests_{os.getpid()}"
# The other servers that a database spans, with Citus.
_WORKERS = "DUES_TESTS_CITUS_WORKERS"


class Home:
    """A temporary DUES_HOME, which the account that PostgreSQL runs as can pass through."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=f"dues-tests-{os.getpid()}-"))
        self.path.chmod(0o711)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    @staticmethod
    def remove_abandoned() -> None:
        """Remove what runs of tests left that were killed."""
        for path in Path(tempfile.gettempdir()).glob("dues-tests-[0-9]*-*"):
            if not psutil.pid_exists(int(path.name.split("-")[2])):
                shutil.rmtree(path, ignore_errors=True)


class Cluster:
    """A PostgreSQL with a migrated template database, from which databases are made in no time."""

    def __init__(self, *, partitioned: bool = False, citus: bool = False, programs: Path | None = None) -> None:
        Home.remove_abandoned()
        self._home = Home()
        self._citus = CitusCluster(self._home.path) if citus else None
        if self._citus:
            self._start_citus(self._citus)
            return
        if named := os.environ.get("DUES_TEST_POSTGRES"):
            programs = Path(named)
        self._postgres = Postgres(self._home.path, durable=False, programs=programs)
        url = os.environ.get("DUES_TEST_DATABASE_URL")
        self._own = not url
        if not url:
            self._postgres.start()
            url = self._postgres.url
        self.url = url
        self.log = self._postgres.log if self._own else None
        create_database(url, _TEMPLATE)
        self.template = _with_database(url, _TEMPLATE)
        run_migrations(self.template)
        if partitioned:
            partition(self.template)

    def _start_citus(self, citus: CitusCluster) -> None:
        citus.start()
        os.environ[_WORKERS] = " ".join(worker.url for worker in citus.workers)
        self.url, self.log, self._own = citus.coordinator.url, citus.coordinator.log, False
        create_database(self.url, _TEMPLATE)
        self.template = _with_database(self.url, _TEMPLATE)
        citus.extend(_TEMPLATE)
        run_migrations(self.template)
        spread(self.template)
        citus.close(_TEMPLATE)

    def stop(self) -> None:
        drop_database(self.url, _TEMPLATE)
        if self._citus:
            self._citus.stop()
        if self._own:
            self._postgres.stop()
            self._postgres.remove()
        self._home.remove()


class Direct:
    """A connection of the tests' own, whose every statement is committed at once. It is kept, and made anew when a test
    had it cut. What it writes touches no tags, so everything cached is forgotten instead (`forget`)."""

    def __init__(
        self, url: str, forget: Callable[[], None] = lambda: None, account: Mapping[str, str] | None = None
    ) -> None:
        self._url, self._forget = url, forget
        self._options: dict[str, Any] = {"options": "-c timezone=UTC -c lock_timeout=10s", **(account or {})}
        self._connection: psycopg2.extensions.connection | None = None

    @contextlib.contextmanager
    def cursor(self) -> Iterator[RealDictCursor]:
        with self._live().cursor(cursor_factory=RealDictCursor) as cursor:
            yield cursor
            if (cursor.query or b"").lstrip()[:6].lower() != b"select":
                self._forget()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _live(self) -> psycopg2.extensions.connection:
        if self._connection is not None:
            if is_live(self._connection):
                return self._connection
            self._connection.close()
        self._connection = psycopg2.connect(self._url, **self._options)
        self._connection.autocommit = True
        return self._connection


# Tags and the bases they are made from; what nobody knows of is not fresh.
_FORGET = b"""
for _, pattern in ipairs({'dues:*:t:*', 'dues:*:base'}) do
  for _, name in ipairs(redis.call('KEYS', pattern)) do redis.call('DEL', name) end
end
"""


class Backing:
    """What Dues stands on, a PostgreSQL, a Redis and a mail server, and how its processes are told of them."""

    home: Path
    database_url: str
    redis_url: str
    mail: MailSink

    def settings(self, **changes: Any) -> Settings:
        """Settings that lead here; leases are short, nobody is limited, and no request is called slow, however busy the
        machine is."""
        values: dict[str, Any] = {
            "database_url": self.database_url,
            "redis_url": self.redis_url,
            "smtp_url": self.mail.smtp_url,
            "mail_lookup_url": self.mail.lookup_url,
            "secret_key": "a key for tests, which nobody else uses",
            "secrets_keys": "a2V5IG51bWJlciBvbmUgb2YgdGhlIHRlc3RzLCAzMiE=",
            "dues_home": str(self.home),
            # Citus finds the server of a store in the statement: what is prepared does not name it.
            "db_prepare": not _workers(),
            "job_lease_s": 2.0,
            "rate_limit": "off",
            "slow_request_s": 3600.0,
        }
        return Settings(**values | changes)

    def forget(self) -> None:
        """Have every process forget what it cached: for a test that wrote into the tables and touched no tag."""
        with contextlib.suppress(CacheAway):
            self._wire.ask(lambda _: [(b"EVAL", _FORGET, b"0")], 60.0)

    @cached_property
    def _wire(self) -> Pool:
        """To forget follows nearly every row that tests make: redis-py would take several times as long."""
        return Pool(Address.parse(self.redis_url), [])

    @cached_property
    def redis(self) -> "redis.Redis":
        """One connection, which is kept, since hardly a test does without."""
        return redis.Redis.from_url(self.redis_url)

    def environ(self, **changes: str) -> dict[str, str]:
        """The environment of a process of Dues (web, worker, relay) with the same settings."""
        settings = self.settings()
        names = "database_url redis_url smtp_url mail_lookup_url secret_key secrets_keys dues_home rate_limit".split()
        found = {name.upper(): str(getattr(settings, name)) for name in names}
        found |= {"JOB_LEASE_S": str(settings.job_lease_s), "DB_PREPARE": str(settings.db_prepare).lower()}
        return {**os.environ, **found, "PYTHONUNBUFFERED": "1", **changes}


class Servers(Backing):
    """What one process of tests talks to."""

    def __init__(self, cluster_url: str, template_url: str, worker: str) -> None:
        self._home = Home()
        self.home = self._home.path
        template = make_url(template_url).database or ""
        self._cluster_url, self._database = cluster_url, f"{template}_{worker}"
        create_database(cluster_url, self._database, template)
        self.database_url = _with_database(cluster_url, self._database)
        self.valkey = Valkey(self.home, durable=False)
        self._external_redis = os.environ.get("DUES_TEST_REDIS_URL")
        if self._external_redis:
            number = int(worker.removeprefix("gw")) if worker.startswith("gw") else 0
            self.redis_url = f"{self._external_redis.rstrip('/').split('?')[0]}/{number}"
        else:
            self.valkey.start()
            self.redis_url = self.valkey.url
        self.mail = MailSink(self.home, faults=True)
        self.mail.start()
        self.direct = Direct(self.database_url, self.forget)
        self._cleaning = (
            Cleaning(_with_database(url, self._database) for url in (cluster_url, *_workers())) if _workers() else None
        )
        if self._cleaning:
            return
        with self.direct.cursor() as cursor:
            make_cleaning(cursor)
        is_ours = not os.environ.get("DUES_TEST_DATABASE_URL")
        self._cleaner = Direct(self.database_url, account=AS_ADMINISTRATOR) if is_ours else self.direct

    @property
    def is_spread(self) -> bool:
        """Whether the database spans several servers."""
        return self._cleaning is not None

    def clean(self, *, anew: bool = False) -> None:
        """Empty the database and Redis. `anew`: no table keeps the room of deleted rows, by which PostgreSQL estimates
        how many there are."""
        if self._cleaning:
            self._cleaning.clean()
        else:
            with self._cleaner.cursor() as cursor:
                cursor.execute("select tests.clean(%s)", (anew,))
        self.redis.flushdb()

    def stop(self) -> None:
        self.direct.close()
        if self._cleaning:
            self._cleaning.close()
        else:
            self._cleaner.close()
        self._wire.close()
        self.redis.close()
        self.mail.stop()
        self.valkey.stop()
        drop_database(self._cluster_url, self._database)
        self._home.remove()


class Mailbox:
    """What the mail server has accepted since the test began."""

    def __init__(self, sink: MailSink) -> None:
        self._sink = sink
        for file in sink.folder.glob("*.eml"):
            file.unlink()
        self.behave()

    def mails(self) -> list[EmailMessage]:
        """All mails, the oldest first; the envelope is in `Return-Path` and `Delivered-To`."""
        files = sorted(self._sink.folder.glob("*.eml"))
        return [message_from_bytes(file.read_bytes(), policy=policy.default) for file in files]

    def wait(self, count: int, timeout_s: float = 15.0) -> list[EmailMessage]:
        """All mails once there are at least `count`. Raises: AssertionError when there are fewer in the end."""
        wait_until(lambda: len(self.mails()) >= count, timeout_s, f"{count} mails")
        return self.mails()

    def behave(self, **orders: Any) -> None:
        """Have the server misbehave: see local/mailsink.py. With nothing: behave again."""
        request = self._sink.request("/behave", json.dumps(orders).encode())
        with urllib.request.urlopen(request, timeout=5):
            pass


@contextlib.contextmanager
def taking_no_writes(client: "redis.Redis", why: str) -> Iterator[None]:
    """While the block runs the Redis answers reads and refuses writes: its memory is `full`, or it is a `replica`."""
    if why == "full":
        client.config_set("maxmemory", 1)
    else:
        client.replicaof("127.0.0.1", 1)
    try:
        yield
    finally:
        client.config_set("maxmemory", 0)
        client.replicaof("NO", "ONE")


def wait_until(condition: Callable[[], object], timeout_s: float = 10.0, what: str = "the condition") -> None:
    """Ask `condition` until it holds. Raises: AssertionError naming `what` where it does not within what `timeout_s` of
    a quiet machine are on a busy one: four times as long."""
    began, timeout_s = time.monotonic(), 4 * timeout_s
    while not condition():
        waited = time.monotonic() - began
        if waited > timeout_s:
            raise AssertionError(f"waited {timeout_s:g} s for {what} in vain")
        # What takes long is asked after less often: asking takes the time of what is waited for.
        time.sleep(min(max(0.01, waited / 20), 0.1))


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    """A server of a test's own, to be paused and killed at will."""
    server.start()
    try:
        yield server
    finally:
        server.stop()


def create_database(url: str, name: str, template: str = "template1") -> None:
    for server in (url, *_workers()):
        with _connected(server) as cursor:
            cursor.execute(f'drop database if exists "{name}"')
            cursor.execute(f'create database "{name}" template "{template}"')


def drop_database(url: str, name: str) -> None:
    if workers := _workers():
        for server in (url, *workers):
            drop(server, name)
        return
    # By an administrator, where it is ours: nobody else may end an administrator's connection that is being closed.
    user = None if os.environ.get("DUES_TEST_DATABASE_URL") else AS_ADMINISTRATOR["user"]
    with _connected(url, user) as cursor:
        cursor.execute(f'drop database if exists "{name}" with (force)')


def _workers() -> list[str]:
    return os.environ.get(_WORKERS, "").split()


def run_migrations(url: str) -> None:
    engine = create_engine(sqlalchemy_url(url), poolclass=NullPool)
    migrate(engine)
    engine.dispose()


def partition(url: str, *tables: str) -> None:
    """Have a database's tables partitioned, if they are not yet: all that may be, unless some are named."""
    config = Settings(database_url=url, redis_url="redis://nowhere", secret_key="x" * 32)
    with changing(config) as session:
        for table in TABLES:
            if (not tables or table.name in tables) and not is_partitioned(session, table.name):
                now = session.value("select clock_timestamp()")
                convert(session, table, now)
                make_ahead(session, table, now)


def spread(url: str) -> None:
    """Distribute a database that spans servers of Citus."""
    with changing(Settings(database_url=url, redis_url="redis://nowhere", secret_key="x" * 32)) as session:
        distribute(session, plan_for(session))


def _with_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


@contextlib.contextmanager
def _connected(url: str, user: str | None = None) -> Iterator[psycopg2.extensions.cursor]:
    """A cursor whose every statement is committed at once. `user`: in place of the URL's."""
    with closing(psycopg2.connect(url.replace("postgresql+psycopg2:", "postgresql:"), user=user)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor
