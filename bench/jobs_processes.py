"""The worker processes that are compared, stopped while another one is measured, and the backlogs for those of Dues.

Each process is started once, then stopped (SIGSTOP) and resumed (SIGCONT), so that start-up is not measured and stopped
processes cost the others nothing.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import psycopg2
import redis
import ujson

from bench.data import Data
from bench.machine import LOAD_CORE, SERVER_CORE, on_core, pinned
from bench.servers import HOME, ROOT
from dues.ids import new_id
from dues.jobs import Kind
from dues.jobs.notifications import CHANNEL
from local.process import Program, Server

_PATIENCE_S = 300
# After this long the worker has completed all that follows a job's end, and waits for the next.
_SETTLED_S = 0.4

_INSERT = """
    insert into jobs(id, kind, queue, args, priority, max_attempts, timeout_s)
    select t.id, %(kind)s, %(queue)s, t.args::jsonb, %(priority)s, %(max_attempts)s, %(timeout_s)s
    from unnest(%(ids)s::uuid[], %(args)s::text[]) t(id, args)
"""


class PausableProcess(Server):
    """Workers, or a relay: one process and its children, on one core."""

    def __init__(self, name: str, argv: Sequence[str], env: Mapping[str, str], core: int = SERVER_CORE) -> None:
        self._name, self._argv, self._env, self._core = name, argv, env, core

    def prepare(self) -> Program:
        return Program(
            name=self._name,
            argv=pinned(self._core, [*self._argv]),
            cwd=ROOT,
            env={**os.environ, **self._env},
            log=HOME / "log" / f"{self._name}.log",
        )

    def pause(self) -> None:
        os.killpg(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        if not self.is_running:
            raise RuntimeError(f"{self._name} has ended: see {HOME / 'log' / self._name}.log")
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        if self.is_running:
            self.resume()
        super().stop()


@contextmanager
def started_paused(*processes: PausableProcess) -> Iterator[None]:
    """Start processes, keep them stopped within the block until they are resumed, and end them after it."""
    started: list[PausableProcess] = []
    try:
        for process in processes:
            process.start()
            started.append(process)
            process.pause()
        yield
    finally:
        for process in started:
            process.stop()


@contextmanager
def resumed(*processes: PausableProcess) -> Iterator[None]:
    """Let processes run within the block."""
    for process in processes:
        process.resume()
    try:
        yield
        # A job whose worker is stopped before the job is completed would be done again after its lease has run out.
        time.sleep(_SETTLED_S)
    finally:
        for process in processes:
            process.pause()


@contextmanager
def off_worker_core() -> Iterator[None]:
    """Keep this process, and all it starts that is not pinned elsewhere, off the workers' core.

    A SIGTERM ends the block normally; otherwise stopped processes would stay for ever.
    """
    handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    try:
        with on_core(LOAD_CORE):
            yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def relay(data: Data) -> PausableProcess:
    """The relay of Dues, on the load core, where PostgreSQL and Redis are."""
    return PausableProcess("relay", [sys.executable, "-m", "workers.relay"], data.environ(), LOAD_CORE)


class Mark:
    """A key that the last job of a backlog writes in Redis, under a unique name."""

    def __init__(self, data: Data) -> None:
        self._redis = redis.Redis.from_url(data.redis_url, socket_timeout=_PATIENCE_S + 5)
        self.name = f"bench:mark:{new_id()}"

    def wait(self) -> float:
        """Wait for the key. Returns: when it was there, by time.time()."""
        if self._redis.blpop([self.name], timeout=_PATIENCE_S) is None:
            raise RuntimeError(f"a backlog was not worked off within {_PATIENCE_S} s")
        return time.time()


class Backlog:
    """Jobs of Dues that are all committed in one transaction."""

    def __init__(self, data: Data) -> None:
        self._connection = psycopg2.connect(data.database_url)
        self._redis = redis.Redis.from_url(data.redis_url)
        self._execute("truncate jobs, email_sends")
        self._connection.commit()

    def _execute(self, sql: str, values: Mapping[str, object] | None = None) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """The result of a query."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            found = cursor.fetchall()
        self._connection.commit()
        return found

    def add(self, kind: Kind, args: Sequence[Mapping[str, object]], priority: int = 100) -> None:
        """Add a job for each of `args`, invisible until the commit. Jobs with a larger `priority` are done later."""
        values = {
            "kind": kind.name,
            "queue": kind.queue,
            "priority": priority,
            "max_attempts": kind.max_attempts,
            "timeout_s": kind.timeout_s,
            "ids": [str(new_id()) for _ in args],
            "args": [ujson.dumps(each) for each in args],
        }
        self._execute(_INSERT, values)

    def commit(self) -> float:
        """Commit the jobs, and notify the relay as `enqueue` does. Returns: when, by time.time()."""
        # Without this, the planner would still use plans for a nearly empty table.
        self._execute("analyze jobs")
        at = time.time()
        self._connection.commit()
        self._redis.publish(CHANNEL, b"")
        return at

    def close(self) -> None:
        self._connection.close()


def wait_until(is_so: Callable[[], bool], what: str, every_s: float = 0.05) -> None:
    """Wait until `is_so` returns True. Raises: RuntimeError after five minutes."""
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_PATIENCE_S} s in vain for {what}")
        time.sleep(every_s)
