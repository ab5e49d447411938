"""The loop that waits at one queue of RQ, and does what is due in it when it is woken, in this process.

RQ's SimpleWorker makes 18 round trips to Redis for a job, keeps it from others for minutes when it is killed, and
loses it when a SIGTERM comes between taking and starting. The truth is in PostgreSQL, so here a delivery only wakes a
worker, which then does one job after the other, each as it is its store's turn, until nothing is due. While Redis or
the relay is away it looks by itself. It registers with RQ and takes deliveries as RQ does, so RQ's tools see it.
"""

import logging
import os
import socket
import time
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

import redis
from flask import Flask
from redis import Redis
from rq import Queue, SimpleWorker, worker_registration
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text, now

from dues.failpoints import failpoint
from dues.jobs.kinds import QueueName
from workers.interrupts import interrupts
from workers.job import begin, go_on, promote
from workers.rq_queues import queue
from workers.threads import Threads

log = logging.getLogger("dues.worker")

# How long a look into an empty queue lasts, and so how soon a stop is noticed.
_LOOK_S = 1.0
_HEARTBEAT_EVERY_S = 30.0
_KEPT_S = 120
# How often a worker looks for itself, in case that no relay runs.
_LOOK_EVERY_S = 5.0
_PAUSE_S = 0.25


class LeanWorker(SimpleWorker):
    """Serves one queue until it is told to stop or its parent is gone: one job at a time in its main thread, or as many
    at once as it has `threads`."""

    def __init__(self, app: Flask, queue_name: QueueName, connection: Redis, threads: int = 1) -> None:
        super().__init__(
            [queue(queue_name, connection)],
            name=f"{socket.gethostname()}.{os.getpid()}.{queue_name}.{os.urandom(4).hex()}",
            connection=connection,
            serializer=JSONSerializer,
            prepare_for_work=False,
        )
        self.hostname = socket.gethostname()
        self.pid = os.getpid()
        self._parent = os.getppid()
        self._heartbeat_at = 0.0
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        self._promote_at = self._look_at
        self._is_without_redis = False
        self._app, self._queue = app, queue_name
        self._threads = Threads(threads) if threads > 1 else None

    @property
    def connection_timeout(self) -> int:
        """What RQ would raise the connection's time-out to: a Redis that hangs is to be noticed sooner."""
        return 0

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Never: RQ's registries are not used, and the relay looks after what is lost."""
        return False

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        # RQ's own lines about each step only help to debug RQ.
        self.log.setLevel(logging.WARNING)
        self.birth_date = now()
        log.info("worker %s serves %s", self.name, self.queues[0].name)

    def check_for_suspension(self, burst: bool) -> None:
        """A queue is paused by scaling its workers to none."""

    def set_state(self, state: str, pipeline: Any = None) -> None:
        """Kept for the next heartbeat."""
        self._state = state

    def procline(self, message: str) -> None:
        """The name of the process is the supervisor's to give."""

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Say that this worker is there, now and then: all of its registration, since Redis may have lost it."""
        if time.monotonic() < self._heartbeat_at:
            return
        self._heartbeat_at = time.monotonic() + _HEARTBEAT_EVERY_S
        self.last_heartbeat = now()
        with suppress(redis.RedisError, OSError), self.connection.pipeline(transaction=False) as together:
            together.hset(self.key, mapping={**self.serialize(), "state": self._state})
            together.expire(self.key, _KEPT_S)
            worker_registration.register(self, together)
            together.execute()

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """The first SIGTERM or SIGINT and every other: take nothing more, and end within the time that is left."""
        self._stop_requested = True
        interrupts.request_stop()

    def dequeue_job_and_maintain_ttl(
        self, timeout: int | None, max_idle_time: int | None = None
    ) -> tuple[Job, Queue] | None:
        """The next delivery, or None when it is time to stop (or, in burst mode, the queue is empty)."""
        source = self.queues[0]
        while not self._is_over():
            if self._threads and not self._threads.wait(_LOOK_S):
                continue
            asked_at = time.monotonic()
            try:
                taken = self._take(source, timeout)
                self._is_without_redis = False
            except (redis.RedisError, OSError) as error:
                if not self._is_without_redis:
                    log.warning("Redis cannot be asked for work: %s; trying until it can", type(error).__name__)
                self._is_without_redis = True
                self._work_without_redis(took_s=time.monotonic() - asked_at)
                continue
            if taken:
                failpoint("worker.after_pop")
                return Job(taken, connection=self.connection, serializer=self.serializer), source
            if timeout is None:
                return None
            if time.monotonic() >= self._look_at:
                self._look_at = time.monotonic() + _LOOK_EVERY_S
                self._work()
        return None

    def _work_without_redis(self, took_s: float) -> None:
        """Look into PostgreSQL now and then until Redis is asked again: for as long as makes little of the time that it
        took to find out that it is away."""
        until = time.monotonic() + _PAUSE_S + 4 * took_s
        while not self._is_over():
            if not self._work():
                time.sleep(_PAUSE_S)
            if time.monotonic() >= until:
                return

    def _take(self, source: Queue, timeout: int | None) -> str | None:
        """A delivery is taken for good: where its worker dies, or is told to stop, the relay makes another."""
        self.heartbeat()
        if timeout is None:
            taken = self.connection.lpop(source.key)
        else:
            # The command takes fractions of a second, whatever the client's types say.
            _, taken = self.connection.blpop([source.key], _LOOK_S) or (None, None)
        return as_text(taken) if isinstance(taken, bytes) else None

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Do what is due."""
        with suppress(redis.RedisError, OSError):
            self.connection.delete(job.key)
        failpoint("worker.before_claim")
        self._work()

    def _work(self) -> bool:
        """Do one job after the other until nothing is due, in a thread where this worker has some. Returns: whether
        there was any."""
        if self._between_jobs() or (self._threads and not self._threads.wait(0)):
            return False
        first = begin(self._queue)
        if first is None:
            return False
        if self._threads:
            self._threads.run(partial(go_on, self._queue, first, self._is_over))
        else:
            go_on(self._queue, first, self._between_jobs)
        return True

    def _between_jobs(self) -> bool:
        """What is to be seen to now and then, however busy a worker is. Returns: whether it is time to end."""
        self.heartbeat()
        if time.monotonic() >= self._promote_at:
            self._promote_at = time.monotonic() + _LOOK_EVERY_S
            promote()
        return self._is_over()

    def _is_over(self) -> bool:
        # A worker whose supervisor was killed would otherwise serve on beside its replacement.
        return self._stop_requested or os.getppid() != self._parent

    def teardown(self) -> None:
        if self._threads:
            # Whether or not a signal came: what is running gets as much time as after one.
            interrupts.request_stop()
            self._threads.finish(self._app)
        with suppress(redis.RedisError, OSError):
            self.register_death()  # type: ignore[no-untyped-call]
