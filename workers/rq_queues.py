"""RQ's queues as Dues uses them: a delivery says which job, and its row in PostgreSQL says all the rest."""

from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.job import Job
from rq.queue import EnqueueData
from rq.serializers import JSONSerializer
from rq.utils import as_text

_PERFORM = "workers.job.perform"
# What is left of a delivery that nobody took goes away by itself.
_KEPT_S = 24 * 3600


def connect(redis_url: str, timeout_s: float = 5.0) -> Redis:
    """A client that waits at most `timeout_s` for an answer and leaves trying again to its user."""
    return Redis.from_url(
        redis_url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s, retry=Retry(NoBackoff(), 0)
    )


def queue(name: str, redis: Redis) -> Queue:
    return Queue(name, connection=redis, serializer=JSONSerializer)


@dataclass(frozen=True)
class Delivery:
    """One attempt to hand a job to a worker. RQ knows it as `{job id in hex}-{number}`: an id is never used twice,
    so what is left of an earlier delivery cannot be mistaken for this one."""

    job_id: UUID
    number: int
    queue: str
    timeout_s: int

    @property
    def rq_id(self) -> str:
        return f"{self.job_id.hex}-{self.number}"


def job_id_of(rq_id: str) -> UUID:
    return UUID(hex=rq_id.partition("-")[0])


class Deliveries:
    """The queues that the relay fills."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queues: dict[str, Queue] = {}

    def _queue(self, name: str) -> Queue:
        if name not in self._queues:
            self._queues[name] = queue(name, self._redis)
        return self._queues[name]

    def lengths(self, names: Iterable[str]) -> list[int]:
        """How many deliveries wait in each queue."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(self._queue(name).key)
            return [int(length) for length in pipeline.execute()]

    def waiting(self, name: str) -> list[str]:
        """The RQ ids of the deliveries that wait in a queue."""
        return [str(rq_id) for rq_id in self._queue(name).get_job_ids()]

    def push(self, deliveries: Iterable[Delivery]) -> None:
        """Put all of them into their queues, or none. Raises: redis.RedisError."""
        by_queue: dict[str, list[Delivery]] = {}
        for delivery in deliveries:
            by_queue.setdefault(delivery.queue, []).append(delivery)
        with self._redis.pipeline(transaction=True) as pipeline:
            for name, group in by_queue.items():
                self._queue(name).enqueue_many([_data(delivery) for delivery in group], pipeline=pipeline)
            pipeline.execute()

    def taken(self, name: str) -> list[str]:
        """The RQ ids that workers have taken from a queue and not yet put away."""
        return [as_text(rq_id) for rq_id in self._redis.lrange(self._queue(name).intermediate_queue_key, 0, -1)]

    def put_away(self, name: str, rq_ids: Iterable[str]) -> None:
        """Remove what workers that died had taken."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for rq_id in rq_ids:
                pipeline.lrem(self._queue(name).intermediate_queue_key, 1, rq_id)
                pipeline.delete(Job.key_for(rq_id))
            pipeline.execute()


def _data(delivery: Delivery) -> EnqueueData:
    return Queue.prepare_data(
        _PERFORM,
        args=(str(delivery.job_id), delivery.number),
        job_id=delivery.rq_id,
        timeout=delivery.timeout_s,
        result_ttl=0,
        ttl=_KEPT_S,
        description="",
    )
