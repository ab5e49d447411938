"""Gives up statements whose server says nothing at all: not even that they took too long, which it would have said
before. psycopg2 waits without end, and its thread with it; so a thread of the process's own cuts the connection, whose
user is then told that it was lost.
"""

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg2

# Longer than PostgreSQL itself lets a statement run: only one that does not even say so is given up here.
GRACE_S = 2.0
_EVERY_S = 0.5


class Watchdog:
    """For one process. The driver's connections that run a statement, and until when each may be silent."""

    def __init__(self) -> None:
        self._until: dict[int, tuple[float, Any]] = {}
        # A thread that is done with a connection may close it, and its socket's number may become another's.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._hurry = threading.local()
        os.register_at_fork(after_in_child=self._begin_anew)

    def watch(self, driver: Any, longest_s: float) -> None:
        """`driver` begins a statement that is over after `longest_s` at the latest, by PostgreSQL's own clock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="postgres-watchdog", daemon=True)
            self._thread.start()
        until = time.monotonic() + longest_s + GRACE_S
        self._until[id(driver)] = min(until, self._hurry.__dict__.get("until", until)), driver

    def done(self, driver: Any) -> None:
        """The statement is over, or has failed."""
        with self._lock:
            self._until.pop(id(driver), None)

    @property
    def is_hurried(self) -> bool:
        """Whether this thread is in a hurry: what is cut in it may be well, and only slow."""
        return "until" in self._hurry.__dict__

    @contextmanager
    def hurried(self, longest_s: float) -> Iterator[Callable[[], bool]]:
        """Whatever this thread asks within has so long, all of it together; then the connection is cut that it waits
        on. Gives: whether there is time left."""
        until = self._hurry.until = time.monotonic() + longest_s
        try:
            yield lambda: time.monotonic() < until
        finally:
            del self._hurry.until

    def _run(self) -> None:
        while True:
            time.sleep(_EVERY_S)
            now = time.monotonic()
            with self._lock:
                for key, (until, driver) in list(self._until.items()):
                    if now > until:
                        del self._until[key]
                        _cut(driver)

    def _begin_anew(self) -> None:
        self._until, self._lock, self._thread = {}, threading.Lock(), None


def _cut(driver: Any) -> None:
    with suppress(psycopg2.Error, OSError), socket.socket(fileno=os.dup(driver.fileno())) as cut:
        cut.shutdown(socket.SHUT_RDWR)


watchdog = Watchdog()


@contextmanager
def given_up_soon(driver: Any) -> Iterator[None]:
    """Whatever `driver` is asked within has some two seconds, all of it together; then the connection is cut, and who
    waits for an answer gets a psycopg2.Error. For a probe, which may meet a server that freezes at any moment."""
    watchdog.watch(driver, 0.0)
    try:
        yield
    finally:
        watchdog.done(driver)


def check_alive(driver: Any) -> None:
    """Ask for next to nothing. Raises: psycopg2.Error, after some two seconds where no answer comes."""
    with given_up_soon(driver), driver.cursor() as cursor:
        cursor.execute("select 1")
