"""The servers of the freshness prover: four web processes and a relay, and the faults that can be injected."""

import asyncio
import contextlib
import os
import random
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import psycopg2
import redis

from bench.databases import Databases
from bench.servers import ROOT, free_port
from config import Settings
from dues.accounts.actor import SCOPES
from dues.accounts.tokens import hash_token
from dues.app import create_base
from dues.clock import now
from dues.ids import new_id
from dues.postgres import db
from dues.postgres.migrate import migrate
from local.process import Program, spawn
from local.standby import value
from local.valkey import Valkey

STORES, PACKAGES, USERS = 20, 7, 20
PROCESSES = 4


@dataclass(frozen=True)
class ProverStore:
    """A store, and what the prover changes there: its packages, a clerk's role, a buyer's payments, and a
    membership."""

    id: str
    packages: list[str]
    clerk_id: str
    buyer_token: str
    member_id: str
    member_token: str
    subscription_id: str


@dataclass(frozen=True)
class ProverPost:
    """A post for followers and a comment on it, both by `author_id`; the author's token, and the token of a
    follower."""

    id: str
    comment_id: str
    author_id: str
    token: str
    reader_token: str


class Cluster:
    """PostgreSQL, Redis, a relay and four web processes, for the duration of a `with` block in the main thread.

    A SIGTERM ends the block as Ctrl-C does. If this process is killed, the servers end too, so nothing is left behind.
    """

    def __init__(self, target: str = "server:app", *, replicas: bool = False, fails_over: bool = False) -> None:
        """With `replicas`, there are two standbys, one of them 2 s behind."""
        self._target, self.has_standbys = target, replicas
        self._folder = tempfile.TemporaryDirectory(prefix="dues-prover-", ignore_cleanup_errors=True)
        self.home = Path(self._folder.name)
        self.home.chmod(0o711)
        self.databases = Databases(self.home, 2 if replicas else 0, fails_over=fails_over)
        self.valkey = Valkey(self.home, durable=False)
        self.marker = self.home / "touched"
        self.ports: list[int] = []
        self.webs: list[subprocess.Popen[bytes]] = []
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Cluster":
        self._on_sigterm = signal.signal(signal.SIGTERM, _exit_on_signal)
        try:
            self._start_servers()
        except BaseException:
            self._clear()
            raise
        return self

    def _start_servers(self) -> None:
        self.databases.start()
        self.valkey.start()
        self.proxy = CuttableProxy(self.valkey.url.split("://")[1].split("?")[0])
        self._processes.append(self.proxy.process)
        self._fill()
        self.databases.follow()
        self._start("relay", [sys.executable, "-m", "workers.relay"], {})
        self._start("worker", [sys.executable, "-m", "workers.supervisor"], {"WORKER_QUEUES": "critical:1"})
        for number in range(PROCESSES):
            port = free_port()
            # The last process reaches Redis through a proxy that can be cut off.
            redis_url = f"redis://127.0.0.1:{self.proxy.port}/0" if number == PROCESSES - 1 else self.valkey.url
            argv = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", self._target]
            env = {"PORT": str(port), "CACHE_REDIS_URL": redis_url, "DUES_HOME": str(self.home / str(port))}
            # The failpoint kills the process once the marker is gone: see FaultInjector.kill_web.
            env["DUES_FAILPOINTS"] = f"cache.after_touch=kill:{self.marker}"
            self.marker.touch()
            self.webs.append(self._start(f"web-{number}", argv, env))
            self.ports.append(port)
        for port in self.ports:
            _wait_for(port)

    def counted(self, metric: str) -> dict[str, int]:
        """The totals of a counter over the web processes, by the counter's label."""
        found: Counter[str] = Counter()
        for port in self.ports:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
                for label, number in re.findall(rf'^{metric}{{\w+="(\w+)"}} (\S+)$', answer.read().decode(), re.M):
                    found[label] += int(float(number))
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def _clear(self) -> None:
        # A second SIGTERM does not interrupt the clean-up.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.valkey.stop()
        self.databases.stop()
        self._folder.cleanup()
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def _start(self, name: str, argv: list[str], env: dict[str, str]) -> "subprocess.Popen[bytes]":
        # The logs are in a folder of their own, which PostgreSQL's account cannot read.
        log = self.home / "log" / f"{name}.log"
        process = spawn(Program(name=name, argv=argv, cwd=ROOT, env=self._environ() | env, log=log))
        self._processes.append(process)
        return process

    def _environ(self) -> dict[str, str]:
        return {
            **os.environ,
            "DATABASE_URL": self.databases.url,
            "DATABASE_REPLICA_URLS": self.databases.replica_urls,
            "REDIS_URL": self.valkey.url,
            "SECRET_KEY": "only for benchmarks, where nothing is secret",
            "DUES_HOME": str(self.home),
            "RATE_LIMIT": "100000000/60",
            "LOG_LEVEL": "warning",
            "PYTHONPATH": str(ROOT),
        }

    def _fill(self) -> None:
        settings = Settings(database_url=self.databases.primary.url, redis_url=self.valkey.url, secret_key="k" * 32)
        with create_base(settings).app_context():
            migrate(db.engine)
            db.engine.dispose()
        connection = psycopg2.connect(self.databases.primary.url)
        connection.autocommit = True
        with connection.cursor() as cursor:
            insert = _inserter(cursor)
            owner = self._user(insert, "Owner")
            self.owner_token = self._token(insert, owner)
            self.stores = [self._store(insert, owner, number) for number in range(STORES)]
            self.users = []
            for _ in range(USERS):
                user = self._user(insert, "0")
                self.users.append((user, self._token(insert, user)))
            self.posts = self._posts(insert)
        connection.close()

    def _posts(self, insert: "Insert") -> list[ProverPost]:
        """One post of each user, with a comment by the same user, who is followed by the next user only."""
        posts = []
        for place, (author, token) in enumerate(self.users):
            reader, reader_token = self.users[(place + 1) % USERS]
            post_id, comment_id = str(new_id()), str(new_id())
            insert("follows", follower_id=reader, followed_id=author, id=str(new_id()))
            insert(
                "posts",
                id=post_id,
                feed_id=post_id,
                author_id=author,
                body="0",
                privacy="followers",
                status="published",
                published_at=now(),
            )
            insert("post_stats", post_id=post_id, comments=1)
            insert("comments", post_id=post_id, id=comment_id, author_id=author, body="0")
            posts.append(ProverPost(post_id, comment_id, author, token, reader_token))
        return posts

    def _user(self, insert: "Insert", name: str) -> str:
        user_id = str(new_id())
        insert("users", id=user_id, email=f"{user_id}@example.org", name=name, password_hash="")
        return user_id

    def _token(self, insert: "Insert", user_id: str) -> str:
        token = "dues_" + secrets.token_urlsafe(32)
        insert(
            "api_tokens",
            id=str(new_id()),
            user_id=user_id,
            name="prover",
            token_hash=hash_token(token),
            scopes=list(SCOPES),
            expires_at=now() + timedelta(days=1),
        )
        return token

    def _store(self, insert: "Insert", owner: str, number: int) -> ProverStore:
        store_id, clerk, buyer = str(new_id()), self._user(insert, "Clerk"), self._user(insert, "Buyer")
        insert("stores", id=store_id, owner_id=owner, name="Store", slug=f"store-{number}", currency="EUR")
        insert("store_staff", store_id=store_id, user_id=owner, id=str(new_id()), role="owner")
        insert("store_staff", store_id=store_id, user_id=clerk, id=str(new_id()), role="support")
        packages = []
        for _ in range(PACKAGES):
            packages.append(str(new_id()))
            insert(
                "packages", store_id=store_id, id=packages[-1], name="0", amount=100, currency="EUR", interval="month"
            )
        member, subscription = self._user(insert, "0"), str(new_id())
        self._subscribe(insert, store_id, subscription, member, packages[0])
        buyer_token, member_token = self._token(insert, buyer), self._token(insert, member)
        return ProverStore(store_id, packages, clerk, buyer_token, member, member_token, subscription)

    def _subscribe(self, insert: "Insert", store_id: str, subscription_id: str, user_id: str, package_id: str) -> None:
        """A membership that does not have to be paid for while the prover runs."""
        began, ends = now(), now() + timedelta(days=30)
        insert("customers", store_id=store_id, user_id=user_id, created_at=began, updated_at=began)
        insert(
            "subscriptions",
            store_id=store_id,
            id=subscription_id,
            user_id=user_id,
            status="active",
            package_id=package_id,
            amount=100,
            currency="EUR",
            interval="month",
            interval_count=1,
            anchor_at=began,
            timezone="UTC",
            trial_days=0,
            trial_refused=False,
            period_number=0,
            current_period_start=began,
            current_period_end=ends,
            cancel_at_period_end=False,
            has_access=True,
            access_until=ends,
            next_action_at=ends,
            test=False,
            version=1,
            created_at=began,
            updated_at=began,
        )


def _exit_on_signal(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


Insert = Callable[..., None]


def _inserter(cursor: Any) -> Insert:
    def insert(table: str, **columns: object) -> None:
        names = ", ".join(columns)
        cursor.execute(f"insert into {table}({names}) values ({', '.join(['%s'] * len(columns))})", [*columns.values()])

    return insert


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5):
            return
        time.sleep(0.2)
    raise RuntimeError(f"no web server on port {port}")


class CuttableProxy:
    """A TCP port that forwards to Redis' socket, in a process of its own, until it is cut."""

    def __init__(self, path: str) -> None:
        self.port = free_port()
        argv = [sys.executable, "-m", "bench.tcp_proxy", str(self.port), path]
        # A stopped process reacts only to SIGKILL.
        self.process = spawn(Program(name="proxy", argv=argv, cwd=ROOT, stop_signal=signal.SIGKILL))

    def cut(self) -> None:
        """Stop forwarding; connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def restore(self) -> None:
        """Forward again."""
        self.process.send_signal(signal.SIGCONT)


class FaultInjector:
    """Injects a fault every few seconds, all kinds in random order."""

    def __init__(self, cluster: Cluster, *, faults: bool, failovers: bool, every_s: float = 5.0) -> None:
        """`faults`: of Redis, of a standby, and of web processes; `failovers`: of PostgreSQL."""
        self._cluster, self._every_s = cluster, every_s
        self._faults, self._failovers = faults, failovers
        self.happened: list[str] = []
        self._old: dict[bytes, bytes] = {}

    async def run(self) -> None:
        of_redis = [self.kill_redis, self.flush, self.pause, self.restore_old, self.fill_up, self.cut_off]
        kinds: list[Callable[[], Awaitable[None]]] = [
            *([*of_redis, self.kill_web] if self._faults else []),
            *([self.pause_standby] if self._cluster.has_standbys else []),
            *([self.fail_over] if self._failovers else []),
        ]
        await self._cluster.databases.require_standby()
        for kind in _forever(kinds):
            await asyncio.sleep(self._every_s * random.uniform(0.6, 1.4))
            await kind()
            self.happened.append(kind.__name__)

    def _redis(self) -> "redis.Redis":
        return redis.Redis.from_url(self._cluster.valkey.url, socket_timeout=5)

    async def kill_redis(self) -> None:
        self._cluster.valkey.kill()
        await asyncio.sleep(random.uniform(0, 1))
        self._cluster.valkey.start()

    async def flush(self) -> None:
        client: Any = self._redis()
        self._old = {key: client.dump(key) for key in client.keys("dues:*")}
        client.flushall()

    async def restore_old(self) -> None:
        """A restart in which Redis comes up with data from some time ago."""
        self._cluster.valkey.kill()
        self._cluster.valkey.start()
        for key, dump in self._old.items():
            if dump:
                self._redis().restore(key, 60_000, dump, replace=True)

    async def pause(self) -> None:
        os.kill(self._cluster.valkey.pid, signal.SIGSTOP)
        await asyncio.sleep(3)
        os.kill(self._cluster.valkey.pid, signal.SIGCONT)

    async def fill_up(self) -> None:
        self._redis().config_set("maxmemory", "1")
        await asyncio.sleep(3)
        self._redis().config_set("maxmemory", "0")

    async def cut_off(self) -> None:
        self._cluster.proxy.cut()
        await asyncio.sleep(3)
        self._cluster.proxy.restore()

    async def pause_standby(self) -> None:
        standby = self._cluster.databases.standbys[0]
        value(standby, "select pg_wal_replay_pause()")
        await asyncio.sleep(3)
        value(standby, "select pg_wal_replay_resume()")

    async def fail_over(self) -> None:
        await self._cluster.databases.fail_over()

    async def kill_web(self) -> None:
        """Have the next write killed between its touch and its commit; gunicorn restarts the process."""
        self._cluster.marker.unlink(missing_ok=True)


def _forever(kinds: list[Callable[[], Awaitable[None]]]) -> Iterator[Callable[[], Awaitable[None]]]:
    while True:
        random.shuffle(kinds)
        yield from kinds
