"""The loop of one worker: wait at one queue of RQ and, when woken, do the jobs that are due, in this process.

RQ's SimpleWorker makes 18 round trips to Redis for a job, keeps a job from other workers for minutes when it is killed,
and loses one when SIGTERM comes between taking and starting it. Here jobs are rows of PostgreSQL and a delivery of RQ
only wakes a worker, which then does one job after another, taking the stores in turn, until none is due. While Redis or
the relay is away, the worker polls PostgreSQL. It registers with RQ and takes deliveries as RQ does, so that RQ's tools
show it.
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

# How long one call waits at an empty queue, and so how soon a stop is noticed. Seconds, as below.
_LOOK_S = 1.0
_HEARTBEAT_EVERY_S = 30.0
_KEPT_S = 120
# How often a worker polls PostgreSQL, in case that no relay runs.
_LOOK_EVERY_S = 5.0
_PAUSE_S = 0.25


class LeanWorker(SimpleWorker):
    """Serves one queue until it is told to stop or its parent has died: one job at a time in its main thread, or with
    `threads` above 1 that many at once."""

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
        """The least time-out that RQ wants for the connection: none, so that a Redis that hangs is noticed soon."""
        return 0

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Never: RQ's registries are not used, and the relay brings back lost jobs."""
        return False

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        # RQ logs each of its steps, which helps only to debug RQ.
        self.log.setLevel(logging.WARNING)
        self.birth_date = now()
        log.info("worker %s serves %s", self.name, self.queues[0].name)

    def check_for_suspension(self, burst: bool) -> None:
        """Does nothing: to pause a queue, scale its workers to zero."""

    def set_state(self, state: str, pipeline: Any = None) -> None:
        """Remember the state, which the next heartbeat sends."""
        self._state = state

    def procline(self, message: str) -> None:
        """Does nothing: the supervisor names the process."""

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Register this worker with RQ, at most every 30 s: wholly each time, since Redis may have lost it."""
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
        """Handle SIGTERM and SIGINT, the first and any further: take no more jobs, and end within DRAIN_S."""
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
                    log.warning("Redis cannot be asked for work: %s; trying until it can", error)
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
        """Poll PostgreSQL until it is time to try Redis again. `took_s` is how long Redis took to fail: polling lasts
        four times as long, so that most of the time is spent on work."""
        until = time.monotonic() + _PAUSE_S + 4 * took_s
        while not self._is_over():
            if not self._work():
                time.sleep(_PAUSE_S)
            if time.monotonic() >= until:
                return

    def _take(self, source: Queue, timeout: int | None) -> str | None:
        """Take a delivery out of the queue. If this worker dies or is told to stop, the relay makes another."""
        self.heartbeat()
        if timeout is None:
            taken = self.connection.lpop(source.key)
        else:
            # Redis takes fractions of a second here, though the client's types say int.
            _, taken = self.connection.blpop([source.key], _LOOK_S) or (None, None)
        return as_text(taken) if isinstance(taken, bytes) else None

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Do the due jobs, whatever `job` is: a delivery names none."""
        with suppress(redis.RedisError, OSError):
            self.connection.delete(job.key)
        failpoint("worker.before_claim")
        self._work()

    def _work(self) -> bool:
        """Do one job after another until none is due, in a thread if this worker has any. Returns: whether there was a
        job."""
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
        """Send heartbeats and make jobs due, however busy this worker is. Returns: whether it is time to end."""
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
            # Running jobs get the same time to end as after a signal.
            interrupts.request_stop()
            self._threads.finish(self._app)
        with suppress(redis.RedisError, OSError):
            self.register_death()  # type: ignore[no-untyped-call]
