"""Several jobs at once in one worker process, each in a thread: for queues whose jobs mostly wait for the network."""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg2
import sqlalchemy.exc
from flask import Flask

from dues.jobs import LeaseLost
from workers.interrupts import interrupts
from workers.job import renewer

log = logging.getLogger("dues.worker")

_LOOK_S = 0.05


class Threads:
    """Runs up to `count` jobs at once. Used by the worker's main thread alone."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self._count = count

    def wait(self, longest_s: float) -> bool:
        """Wait until a thread is free, for at most `longest_s`. Returns: whether one is."""
        if not (self._free.acquire(timeout=longest_s) if longest_s else self._free.acquire(blocking=False)):
            return False
        self._free.release()
        return True

    def run(self, work: Callable[[], object]) -> None:
        """Call `work` in a new thread. It must not raise."""
        self._free.acquire()

        def do() -> None:
            try:
                work()
            finally:
                self._free.release()

        threading.Thread(target=do, name="job", daemon=True).start()

    def finish(self, app: Flask) -> None:
        """Wait until all jobs have ended, or the time for a stop is over. Jobs that still run then are given back, so
        that another worker does them, which costs them no attempt. The process has to end afterwards."""
        while not interrupts.drained():
            if self._idle():
                return
            time.sleep(_LOOK_S)
        with app.app_context():
            for lease in renewer().held():
                log.warning("job %s does not end in time and is given back", lease.job_id)
                with suppress(LeaseLost, psycopg2.Error, sqlalchemy.exc.SQLAlchemyError):
                    lease.give_back(uncharged=True)

    def _idle(self) -> bool:
        taken = 0
        while taken < self._count and self._free.acquire(blocking=False):
            taken += 1
        for _ in range(taken):
            self._free.release()
        return taken == self._count
