"""Random faults, one after the other, as long as they are wanted: everything may be killed, stopped or forgotten."""

import contextlib
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import psutil
import psycopg2
import redis

from tests.faults.house import Crew, House, Role, family

# How long the world is left alone between two faults, and how long something stands still; seconds.
_PAUSE_S = (0.1, 1.5)
_STILL_S = (0.5, 4.0)


class Still(NamedTuple):
    """A process that was sent a SIGSTOP: what it is part of, and when it is to be woken."""

    until: float
    what: str
    process: psutil.Process


class Havoc:
    """Strikes at a house and its crew, and looks after them as those who run Dues would: what is dead is started anew.

    Everything is started from the thread that calls `strike()`, which must be the main thread.
    """

    def __init__(self, house: House, crew: Crew, chance: random.Random) -> None:
        self._house, self._crew, self._chance = house, crew, chance
        self._still: list[Still] = []
        self.struck: Counter[str] = Counter()
        self._faults: dict[str, tuple[int, Callable[[], None]]] = {
            "a web process -9": (2, self._kill_web_process),
            "the web server -9": (1, self._house.replace_web),
            "a relay -9": (3, lambda: self._kill(self._crew.relays[chance.randrange(2)].pid)),
            "a worker -9": (6, lambda: self._on_a_worker(signal.SIGKILL)),
            "a supervisor -9": (2, lambda: self._kill(self._crew.workers[chance.choice(_SUPERVISORS)].pid)),
            "a worker SIGTERM": (2, lambda: self._on_a_worker(signal.SIGTERM)),
            "a worker SIGSTOP": (4, lambda: self._on_a_worker(signal.SIGSTOP)),
            "Redis -9": (2, self._kill_redis),
            "Redis FLUSHALL": (1, self._flush_redis),
            "Redis SIGSTOP": (1, lambda: self._hold_still("Redis", self._house.valkey.pid)),
            "PostgreSQL -9": (2, self._kill_postgres),
            "PostgreSQL SIGSTOP": (1, lambda: self._hold_still("PostgreSQL", self._house.postgres.pid)),
            "backends terminated": (2, self._terminate_backends),
            "mail server -9": (2, self._kill_mail),
            "mail server misbehaves": (3, self._misbehave),
        }

    def strike(self) -> None:
        """One fault, and a pause."""
        names = list(self._faults)
        [name] = self._chance.choices(names, [self._faults[name][0] for name in names])
        self.struck[name] += 1
        self._faults[name][1]()
        until = time.monotonic() + self._chance.uniform(*_PAUSE_S)
        while time.monotonic() < until:
            self.look_after()
            time.sleep(0.05)

    def look_after(self) -> None:
        """Start what is dead, and wake up who has stood still for long enough."""
        self._wake(lambda still: still.until <= time.monotonic())
        self._crew.replace_the_dead()
        if self._house.web.process.poll() is not None:
            self.struck["a web server that ended by itself"] += 1
            self._house.web.__enter__()
        if not self._house.mail.is_running:
            self._house.mail.start()

    def end(self) -> None:
        """Everything is awake and well-behaved from now on."""
        self._wake(lambda still: True)
        self.look_after()
        self._house.mend()

    def _wake(self, which: Callable[[Still], bool]) -> None:
        for still in [still for still in self._still if which(still)]:
            self._still.remove(still)
            _send(still.process, signal.SIGCONT)

    def _kill_web_process(self) -> None:
        if processes := family(self._house.web.process.pid)[1:]:
            _send(self._chance.choice(processes), signal.SIGKILL)

    def _on_a_worker(self, number: signal.Signals) -> None:
        workers = [worker for role in _SUPERVISORS for worker in family(self._crew.workers[role].pid)[1:]]
        if workers:
            worker = self._chance.choice(workers)
            _send(worker, number)
            if number == signal.SIGSTOP:
                self._wake_later("worker", worker)

    def _kill(self, pid: int | None) -> None:
        assert pid
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    def _hold_still(self, what: str, pid: int) -> None:
        for process in family(pid):
            _send(process, signal.SIGSTOP)
            self._wake_later(what, process)

    def _wake_later(self, what: str, process: psutil.Process) -> None:
        self._still.append(Still(time.monotonic() + self._chance.uniform(*_STILL_S), what, process))

    def _kill_redis(self) -> None:
        self._house.valkey.kill()
        time.sleep(self._chance.uniform(0, 3))
        self._house.valkey.start()

    def _flush_redis(self) -> None:
        with contextlib.suppress(redis.RedisError), closing(self._redis()) as client:
            client.flushall()

    def _redis(self) -> redis.Redis:
        return redis.Redis.from_url(self._house.redis_url, socket_timeout=1)

    def _kill_postgres(self) -> None:
        self._house.postgres.kill()
        # Its processes find out by themselves, those that stood still when they wake up.
        self._wake(lambda still: still.what == "PostgreSQL")
        self._house.postgres.start()

    def _terminate_backends(self) -> None:
        # Not through a connection whose end stands still: nobody but us would wake it up.
        self._wake(lambda still: still.what == "PostgreSQL")
        with contextlib.suppress(psycopg2.Error):
            self._house.terminate_backends()

    def _kill_mail(self) -> None:
        self._house.mail.kill()
        time.sleep(self._chance.uniform(0, 2))
        self._house.mail.start()

    def _misbehave(self) -> None:
        fault = self._chance.choice(
            [
                {"at": "dot", "do": "451"},
                {"at": "dot", "do": "reset"},
                {"at": "dot", "do": "hang", "seconds": 3},
                {"at": "after_accept", "do": "reset"},
                {"at": "after_accept", "do": "hang", "seconds": 3},
                {"at": "after_accept", "do": "kill"},
            ]
        )
        with contextlib.suppress(OSError):
            self._house.mailbox.behave(next=[fault])


_SUPERVISORS: tuple[Role, ...] = ("critical", "default")


def _send(process: psutil.Process, number: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
