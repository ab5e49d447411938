"""The loop that takes deliveries from one queue and has them done, in this process.

RQ's SimpleWorker makes 18 round trips to Redis for a job, keeps it from others for minutes when it is killed, and
loses it when a SIGTERM comes between taking and starting. The truth is in PostgreSQL, so this one needs two: take
the delivery; put it away. While Redis or the relay is away it takes what is due from PostgreSQL itself. It registers
with RQ and moves deliveries as RQ does, so RQ's tools see it.
"""

import logging
import os
import socket
import time
from contextlib import suppress
from types import FrameType
from typing import Any

import redis
from redis import Redis
from rq import Queue, SimpleWorker, worker_registration
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.utils import as_text, now

from dues.failpoints import failpoint
from workers.interrupts import interrupts
from workers.job import perform, perform_next
from workers.rq_queues import job_id_of, queue

log = logging.getLogger("dues.worker")

# How long a look into an empty queue lasts, and so how soon a stop is noticed.
_LOOK_S = 1.0
_HEARTBEAT_EVERY_S = 30.0
_KEPT_S = 120
# How often a worker with nothing to do looks for itself, in case that no relay runs.
_LOOK_EVERY_S = 5.0
# How long to go on without Redis before it is asked again, which takes as long when it hangs.
_WITHOUT_REDIS_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0


class LeanWorker(SimpleWorker):
    """Serves one queue until it is told to stop or its parent is gone."""

    def __init__(self, queue_name: str, connection: Redis) -> None:
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

    @property
    def connection_timeout(self) -> int:
        """What RQ would raise the connection's time-out to: a Redis that hangs is to be noticed sooner."""
        return 0

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Never: RQ's registries are not used, and the relay looks after what is lost."""
        return False

    def bootstrap(self, *args: Any, **kwargs: Any) -> None:
        # What RQ says of each step is for those who debug RQ.
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
        source, pause_s = self.queues[0], _FIRST_PAUSE_S
        while not self._is_over():
            try:
                self.heartbeat()
                taken = self._take(source, timeout)
            except (redis.RedisError, OSError) as error:
                if pause_s == _FIRST_PAUSE_S:
                    log.warning("Redis cannot be asked for work: %s; trying until it can", type(error).__name__)
                if not self._work_undelivered(source.name):
                    time.sleep(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
                continue
            if taken:
                failpoint("worker.after_pop")
                if not self._stop_requested:
                    return Job(taken, connection=self.connection, serializer=self.serializer), source
                self._hand_back(source, taken)
            elif timeout is None:
                return None
            elif time.monotonic() >= self._look_at:
                self._work_undelivered(source.name)
                self._look_at = time.monotonic() + _LOOK_EVERY_S
        return None

    def _work_undelivered(self, queue_name: str) -> bool:
        """The relay and Redis bring word of what is due, and PostgreSQL knows it too: do that, for a while. Returns:
        whether there was any."""
        until, is_due = time.monotonic() + _WITHOUT_REDIS_S, False
        while not self._is_over() and time.monotonic() < until and perform_next(queue_name):
            is_due = True
        return is_due

    def _take(self, source: Queue, timeout: int | None) -> str | None:
        if timeout is None:
            taken = self.connection.lmove(source.key, source.intermediate_queue_key)
        else:
            # The command takes fractions of a second, whatever the client's types say.
            taken = self.connection.blmove(source.key, source.intermediate_queue_key, _LOOK_S)  # type: ignore[arg-type]
        return as_text(taken) if taken else None

    def _hand_back(self, source: Queue, taken: str) -> None:
        """Another worker need not wait until the relay misses it."""
        with suppress(redis.RedisError, OSError), self.connection.pipeline(transaction=True) as together:
            together.lrem(source.intermediate_queue_key, 1, taken)
            together.lpush(source.key, taken)
            together.execute()

    def _is_over(self) -> bool:
        # A worker whose supervisor was killed would otherwise serve on beside its replacement.
        return self._stop_requested or os.getppid() != self._parent

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Do the job. However that went, its row knows, so the delivery is put away."""
        perform(str(job_id_of(job.id)))
        failpoint("worker.before_ack")
        with suppress(redis.RedisError, OSError), self.connection.pipeline(transaction=False) as together:
            together.lrem(queue.intermediate_queue_key, 1, job.id)
            together.delete(job.key)
            together.execute()

    def teardown(self) -> None:
        with suppress(redis.RedisError, OSError):
            self.register_death()  # type: ignore[no-untyped-call]
