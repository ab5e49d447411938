"""Keeping the lease of the job that is running, from a thread beside its body."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import sqlalchemy.exc
from flask import Flask

from dues.jobs.lease import Lease

log = logging.getLogger("dues.jobs")


class Renewer:
    """Renews one process's lease, if it holds one, every third of the lease's time.

    On a connection of its own, so that neither a long transaction of the body nor a slow statement delays it.
    """

    def __init__(self, app: Flask, every_s: float) -> None:
        self._app = app
        self._every_s = every_s
        self._lease: Lease | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()

    @contextmanager
    def keeping(self, lease: Lease) -> Iterator[None]:
        """Renew `lease` while the block runs."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._renew, name="lease-renewal", daemon=True)
            self._thread.start()
        self._lease = lease
        try:
            yield
        finally:
            self._lease = None

    def end(self) -> None:
        """Stop the thread, and wait until it is gone: a process with one thread can be forked safely."""
        if self._thread is not None:
            self._ended.set()
            self._thread.join()
            self._ended.clear()
            self._thread = None

    def _renew(self) -> None:
        while not self._ended.wait(self._every_s):
            lease = self._lease
            if lease is None or lease.lost:
                continue
            try:
                with self._app.app_context():
                    lease.renew()
            except (psycopg2.Error, sqlalchemy.exc.SQLAlchemyError) as error:
                # The next turn, or the body's own check, tries again; meanwhile the lease runs down.
                log.warning("could not renew the lease of job %s: %s", lease.job_id, type(error).__name__)
