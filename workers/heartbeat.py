"""Renews the leases of the running jobs, from a thread beside their handlers."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import sqlalchemy.exc
from flask import Flask

from dues.jobs.lease import Lease

log = logging.getLogger("dues.jobs")

# After a handler's time limit: how long its lease is still renewed, so that the handler can be stopped and its end
# written. Seconds.
_GRACE_S = 30.0


class Renewer:
    """Renews the leases that one process holds, each of them three times in its length.

    It has a connection of its own, so that neither a handler's long transaction nor a slow statement delays it. A lease
    is renewed until a little after the time limit of the job's kind, and no longer: nothing can stop a handler that
    hangs in a thread, but once its lease has run out another worker takes the job over.
    """

    def __init__(self, app: Flask, every_s: float) -> None:
        self._app = app
        self._every_s = every_s
        self._leases: dict[Lease, float] = {}
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()

    @contextmanager
    def keeping(self, lease: Lease, timeout_s: float) -> Iterator[None]:
        """Renew `lease` while the block runs."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._renew_all, name="lease-renewal", daemon=True)
                self._thread.start()
            self._leases[lease] = time.monotonic() + timeout_s + _GRACE_S
        try:
            yield
        finally:
            with self._lock:
                del self._leases[lease]

    def held(self) -> list[Lease]:
        """The leases of the jobs that are running."""
        with self._lock:
            return list(self._leases)

    def end(self) -> None:
        """Stop the thread, and wait until it is gone: a process with one thread can be forked safely."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._ended.clear()
            self._thread = None

    def _renew_all(self) -> None:
        while not self._ended.wait(self._every_s):
            for lease in self._due():
                try:
                    with self._app.app_context():
                        lease.renew()
                except (psycopg2.Error, sqlalchemy.exc.SQLAlchemyError) as error:
                    # The next round, or the handler's own check, tries again before the lease runs out.
                    log.warning("could not renew the lease of job %s: %s", lease.job_id, type(error).__name__)

    def _due(self) -> list[Lease]:
        moment = time.monotonic()
        with self._lock:
            return [lease for lease, until in self._leases.items() if not lease.lost and moment < until]
