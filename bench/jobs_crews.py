"""The workers that are compared, kept at rest while it is not their turn, and the way a backlog reaches those of Dues.

Each crew is started once and then paused (SIGSTOP) and resumed, so that no start-up is measured and those who wait
cost the others nothing.
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
# What follows a job's end is over after this, and its worker waits for the next.
_SETTLED_S = 0.4

_INSERT = """
    insert into jobs(id, kind, queue, args, priority, max_attempts, timeout_s)
    select t.id, %(kind)s, %(queue)s, t.args::jsonb, %(priority)s, %(max_attempts)s, %(timeout_s)s
    from unnest(%(ids)s::uuid[], %(args)s::text[]) t(id, args)
"""


class Crew(Server):
    """Some workers, or a relay: one process and those it starts, on one core."""

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
def at_rest(*crews: Crew) -> Iterator[None]:
    """Start crews, which stand still inside the block until they are resumed, and end them after it."""
    started: list[Crew] = []
    try:
        for crew in crews:
            crew.start()
            started.append(crew)
            crew.pause()
        yield
    finally:
        for crew in started:
            crew.stop()


@contextmanager
def on_turn(*crews: Crew) -> Iterator[None]:
    """Let crews run inside the block."""
    for crew in crews:
        crew.resume()
    try:
        yield
        # A job that is paused before it is put away is done again when its lease has run out.
        time.sleep(_SETTLED_S)
    finally:
        for crew in crews:
            crew.pause()


@contextmanager
def beside() -> Iterator[None]:
    """Have this process, and all it starts that is not pinned elsewhere, keep off the workers' core.

    A SIGTERM ends the block in good order: crews that stand still would otherwise stay for ever.
    """
    handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    try:
        with on_core(LOAD_CORE):
            yield
    finally:
        signal.signal(signal.SIGTERM, handler)


def relay(data: Data) -> Crew:
    """Beside the worker, as PostgreSQL and Redis are."""
    return Crew("relay", [sys.executable, "-m", "workers.relay"], data.environ(), LOAD_CORE)


class Mark:
    """What the last job of a backlog leaves in Redis, under a name of its own."""

    def __init__(self, data: Data) -> None:
        self._redis = redis.Redis.from_url(data.redis_url, socket_timeout=_PATIENCE_S + 5)
        self.name = f"bench:mark:{new_id()}"

    def wait(self) -> float:
        """Returns: when it was there, by time.time()."""
        if self._redis.blpop([self.name], timeout=_PATIENCE_S) is None:
            raise RuntimeError(f"a backlog was not worked off within {_PATIENCE_S} s")
        return time.time()


class Backlog:
    """Jobs of Dues that are committed all at once, with what commits along."""

    def __init__(self, data: Data) -> None:
        self._connection = psycopg2.connect(data.database_url)
        self._redis = redis.Redis.from_url(data.redis_url)
        self._execute("truncate jobs, email_sends")
        self._connection.commit()

    def _execute(self, sql: str, values: Mapping[str, object] | None = None) -> None:
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)

    def rows(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        """What a query finds at present."""
        with self._connection.cursor() as cursor:
            cursor.execute(sql, values)
            found = cursor.fetchall()
        self._connection.commit()
        return found

    def add(self, kind: Kind, args: Sequence[Mapping[str, object]], priority: int = 100) -> None:
        """A job for each of `args`, unseen until the commit. A larger `priority` comes later."""
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
        """Let the relay see them, and hint at them as `enqueue` does. Returns: when, by time.time()."""
        # The plans that suit a nearly empty table are wrong for what comes.
        self._execute("analyze jobs")
        at = time.time()
        self._connection.commit()
        self._redis.publish(CHANNEL, b"")
        return at

    def close(self) -> None:
        self._connection.close()


def wait_until(is_so: Callable[[], bool], what: str, every_s: float = 0.05) -> None:
    """Raises: RuntimeError after five minutes."""
    deadline = time.monotonic() + _PATIENCE_S
    while not is_so():
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {_PATIENCE_S} s in vain for {what}")
        time.sleep(every_s)
