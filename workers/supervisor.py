"""The supervisor, `python -m workers.supervisor`: the worker processes that WORKER_QUEUES asks for, one queue each.

Workers are forked from a process that has imported everything, so that they share its memory. One that dies is
started again. SIGTERM is passed on: workers stop taking jobs, finish what they can in 20 s, give the rest back and
exit. Workers still alive after 25 s are killed; their jobs come back when the leases run out.
"""

import gc
import logging
import os
import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass

from flask import Flask

from config import ConfigError
from dues.jobs.kinds import QUEUES, QueueName
from dues.jobs.queues import threads
from dues.observability.logs import start_logging
from dues.observability.trace import flush_spans
from dues.settings import settings
from workers.app import create_worker_app, wait_for_migrations, warn_of_lookalikes
from workers.job import UndeclaredJob, check_declared, use_app
from workers.registry import MODULES
from workers.rq_queues import connect
from workers.rq_worker import LeanWorker

log = logging.getLogger("dues.worker")

_KILL_AFTER_S = 25.0
# The least time between two starts in one slot, for a worker that fails as it starts. Seconds.
_RESTART_EVERY_S = 1.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)


def parse_queues(text: str) -> list[QueueName]:
    """`critical:2,slow:1` as the queue of each process. Raises: ConfigError for a queue that does not exist."""
    known: dict[str, QueueName] = {name: name for name in QUEUES}
    processes: list[QueueName] = []
    for entry in text.split(","):
        name, _, count = entry.partition(":")
        if name not in known:
            raise ConfigError(f"WORKER_QUEUES: there is no queue {name}, only {', '.join(QUEUES)}")
        processes += [known[name]] * int(count)
    return processes


@dataclass
class Slot:
    """A place for one worker process of a queue; `pid` is None while there is none."""

    queue: QueueName
    pid: int | None = None
    not_before: float = 0.0


class Supervisor:
    """Keeps every slot filled until it is told to stop."""

    def __init__(self, app: Flask, queues: list[QueueName]) -> None:
        self._app = app
        self._slots = [Slot(name) for name in queues]

    def run(self) -> None:
        """Returns when all workers have ended after a SIGTERM or SIGINT."""
        # Blocked signals stay pending until sigtimedwait() takes them, so none is missed between two calls of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        gc.collect()
        gc.freeze()
        served = Counter(slot.queue for slot in self._slots)
        log.info("handlers from %s", ", ".join(module.__name__ for module in MODULES))
        log.info("workers: %s", ", ".join(f"{name}:{count}" for name, count in served.items()))
        if missing := [name for name in QUEUES if name not in served]:
            log.warning("no worker of this supervisor serves %s: some other must", ", ".join(missing))
        while True:
            self._fill()
            received = signal.sigtimedwait(_SIGNALS, _RESTART_EVERY_S)
            self._reap()
            if received and received.si_signo in (signal.SIGTERM, signal.SIGINT):
                break
        self._stop()

    def _fill(self) -> None:
        for slot in self._slots:
            if slot.pid is None and time.monotonic() >= slot.not_before:
                slot.not_before = time.monotonic() + _RESTART_EVERY_S
                slot.pid = self._fork(slot.queue)

    def _fork(self, queue: QueueName) -> int:
        pid = os.fork()
        if pid:
            return pid
        code = 1
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            serve(self._app, queue)
            code = 0
        except BaseException:
            log.exception("the worker of %s failed", queue)
        finally:
            flush_spans()
            logging.shutdown()
            os._exit(code)

    def _reap(self, level: int = logging.WARNING) -> None:
        for slot in self._slots:
            if slot.pid is not None and (found := os.waitpid(slot.pid, os.WNOHANG))[0]:
                code = os.waitstatus_to_exitcode(found[1])
                log.log(level, "worker %d of %s ended with %d", slot.pid, slot.queue, code)
                slot.pid = None

    def _stop(self) -> None:
        log.info("stopping")
        self._signal(signal.SIGTERM)
        kill_at = time.monotonic() + _KILL_AFTER_S
        while any(slot.pid for slot in self._slots):
            if time.monotonic() >= kill_at:
                self._signal(signal.SIGKILL)
                kill_at = float("inf")
            signal.sigtimedwait([signal.SIGCHLD], 0.2)
            self._reap(logging.INFO)

    def _signal(self, number: signal.Signals) -> None:
        for slot in self._slots:
            if slot.pid is not None:
                os.kill(slot.pid, number)


def serve(app: Flask, queue: QueueName) -> None:
    """Run one worker of `queue` in this process until it is told to stop."""
    use_app(app)
    with app.app_context():
        redis_url = settings().redis_url
        count = threads(queue)
    LeanWorker(app, queue, connect(redis_url), count).work(logging_level=None)


def supervise() -> None:
    """Run the workers that the settings ask for until told to stop. Raises: ConfigError."""
    app = create_worker_app()
    with app.app_context():
        start_logging(settings().log_level)
        queues = parse_queues(settings().worker_queues)
    warn_of_lookalikes()
    wait_for_migrations(app)
    Supervisor(app, queues).run()


def main() -> None:
    try:
        check_declared()
        supervise()
    except (ConfigError, UndeclaredJob) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
