"""Tells the relay that jobs are due, at no cost to whoever enqueued them.

A hint: the relay also looks by itself every `RELAY_POLL_S`. It is published from a thread of its own, so a Redis that
is down, hung or unknown costs a request nothing but setting a flag.
"""

import os
import threading
import time

from flask import current_app
from redis import Redis, RedisError
from redis.backoff import NoBackoff
from redis.retry import Retry

from dues.settings import settings

CHANNEL = "dues:jobs:due"

_TIMEOUT_S = 0.25
# Many jobs enqueued within this time are one hint.
_SPACING_S = 0.01
# How long to leave a Redis alone that did not take a hint.
_PAUSE_S = 1.0


class Waker:
    """Publishes hints for one process; `fork()` leaves the child with a Waker that starts a thread of its own."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._due = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = 0

    def wake(self) -> None:
        if self._pid != os.getpid():
            self._start()
        self._due.set()

    def _start(self) -> None:
        # Two threads that get here at once start two publishers, which is harmless.
        self._due = threading.Event()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._publish, args=(self._due,), name="job-waker", daemon=True)
        self._thread.start()

    def _publish(self, due: threading.Event) -> None:
        redis: Redis | None = None
        while due.wait():
            due.clear()
            try:
                if redis is None:
                    redis = _connect(self._redis_url)
                redis.publish(CHANNEL, b"")
                time.sleep(_SPACING_S)
            except (RedisError, OSError, ValueError):
                time.sleep(_PAUSE_S)


def _connect(url: str) -> Redis:
    return Redis.from_url(
        url, socket_timeout=_TIMEOUT_S, socket_connect_timeout=_TIMEOUT_S, retry=Retry(NoBackoff(), 0)
    )


def wake_relay() -> None:
    """Hint that a job is due. Never fails, never waits."""
    waker: Waker | None = current_app.extensions.get("jobs.waker")
    if waker is None:
        waker = current_app.extensions["jobs.waker"] = Waker(settings().redis_url)
    waker.wake()
