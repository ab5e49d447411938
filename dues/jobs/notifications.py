"""Hints: a job is due, for the relay; a job has changed, for those who wait for it. At no cost to whoever gives them.

Nothing rests on a hint: the relay also looks by itself every `RELAY_POLL_S`, and so do web processes for the jobs that
clients wait for. They are published from a thread of its own, so a Redis that is down, hung or unknown costs a request
nothing but setting a flag.
"""

import logging
import os
import threading
import time
from collections import deque
from uuid import UUID

from flask import current_app
from redis import Redis, RedisError

from dues.observability.outage import Outage
from dues.redis.client import redis_client
from dues.settings import settings

log = logging.getLogger("dues.jobs")

CHANNEL = "dues:jobs:due"
CHANGES = "dues:jobs:changed"

_TIMEOUT_S = 0.25
# Many hints given within this time are one message.
_SPACING_S = 0.01
# For how long no hint is sent after Redis has failed to take one.
_PAUSE_S = 1.0
# Changes that a Redis which is away did not take; the oldest are forgotten.
_MOST_CHANGES = 10_000


class Waker:
    """Publishes hints for one process; `fork()` leaves the child with a Waker that starts a thread of its own."""

    def __init__(self, redis_url: str) -> None:
        self._redis_url = redis_url
        self._hinted = threading.Event()
        self._is_due = False
        self._changes: deque[tuple[UUID, int]] = deque(maxlen=_MOST_CHANGES)
        self._pid = 0

    def wake(self) -> None:
        """A job is due."""
        self._start()
        self._is_due = True
        self._hinted.set()

    def tell(self, job_id: UUID, version: int) -> None:
        """A job has changed."""
        self._start()
        self._changes.append((job_id, version))
        self._hinted.set()

    def _start(self) -> None:
        if self._pid == os.getpid():
            return
        # Two threads that get here at once start two publishers, which is harmless.
        self._hinted = threading.Event()
        self._pid = os.getpid()
        threading.Thread(target=self._publish, args=(self._hinted,), name="job-waker", daemon=True).start()

    def _publish(self, hinted: threading.Event) -> None:
        redis: Redis | None = None
        outage = Outage()
        while hinted.wait():
            hinted.clear()
            try:
                if redis is None:
                    redis = redis_client(self._redis_url, _TIMEOUT_S)
                if self._is_due:
                    self._is_due = False
                    redis.publish(CHANNEL, b"")
                if changes := self._taken():
                    redis.publish(CHANGES, write_changes(changes))
                outage.worked()
                time.sleep(_SPACING_S)
            except Exception as error:
                # Nothing begins this thread anew.
                if not isinstance(error, (RedisError, OSError)) and outage.failed():
                    log.exception("hints cannot be published for now")
                redis = None
                time.sleep(_PAUSE_S)

    def _taken(self) -> dict[UUID, int]:
        taken: dict[UUID, int] = {}
        while self._changes:
            job_id, version = self._changes.popleft()
            taken[job_id] = version
        return taken


def write_changes(changes: dict[UUID, int]) -> str:
    """Jobs and their new versions as one message."""
    return " ".join(f"{job_id.hex}:{version}" for job_id, version in changes.items())


def read_changes(message: bytes) -> list[tuple[UUID, int]]:
    """What a message on `CHANGES` tells. Raises: ValueError for what is none of ours."""
    pairs = (word.split(":") for word in message.decode("ascii").split())
    return [(UUID(job_id), int(version)) for job_id, version in pairs]


def wake_relay() -> None:
    """Hint that a job is due. Never fails, never waits."""
    _waker().wake()


def tell_change(job_id: UUID, version: int = 0) -> None:
    """Hint, after the commit, that a job has come to `version` (0: to one that the caller does not know). Never
    fails, never waits."""
    _waker().tell(job_id, version)


def _waker() -> Waker:
    waker: Waker | None = current_app.extensions.get("jobs.waker")
    if waker is None:
        waker = current_app.extensions["jobs.waker"] = Waker(settings().redis_url)
    return waker
