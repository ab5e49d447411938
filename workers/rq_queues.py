"""RQ's queues as Dues uses them: an entry only wakes a worker, which then asks PostgreSQL for the next job.

So it does not matter which entry a worker takes, or whether one is lost: a free worker finds out by itself which job is
next (dues/jobs/turns.py), and the relay adds entries for as long as jobs are due. Such an entry is called a delivery.
"""

from collections.abc import Iterable, Mapping

from redis import Redis
from rq import Queue
from rq.queue import EnqueueData
from rq.serializers import JSONSerializer

from dues.ids import new_id
from dues.redis.client import check_takes_writes, redis_client

_PERFORM = "workers.job.perform"
# When Redis deletes what is left of a delivery that was lost, in seconds.
_KEPT_S = 3600


def connect(redis_url: str, timeout_s: float = 2.5) -> Redis:
    """A client that waits at most `timeout_s` for an answer, which includes the second for which a blocking command
    waits, and does not repeat a command that failed."""
    return redis_client(redis_url, timeout_s)


def queue(name: str, redis: Redis) -> Queue:
    return Queue(name, connection=redis, serializer=JSONSerializer)


class Deliveries:
    """The queues that the relay fills."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._queues: dict[str, Queue] = {}

    def _queue(self, name: str) -> Queue:
        if name not in self._queues:
            self._queues[name] = queue(name, self._redis)
        return self._queues[name]

    def check(self, names: Iterable[str]) -> None:
        """Raises: redis.RedisError where nothing could be pushed to these queues: Redis is away or takes no writes, or
        what it has under their names is somebody else's."""
        check_takes_writes(self._redis)
        self.lengths(names)

    def lengths(self, names: Iterable[str]) -> list[int]:
        """How many deliveries wait in each queue."""
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.llen(self._queue(name).key)
            return [int(length) for length in pipeline.execute()]

    def push(self, counts: Mapping[str, int]) -> None:
        """Put so many deliveries into each queue, all of them or none. Raises: redis.RedisError."""
        with self._redis.pipeline(transaction=True) as pipeline:
            for name, count in counts.items():
                self._queue(name).enqueue_many([_data(name) for _ in range(count)], pipeline=pipeline)
            pipeline.execute()


def _data(name: str) -> EnqueueData:
    return Queue.prepare_data(
        _PERFORM,
        args=(name,),
        # A worker of the previous release takes it for the id of a job, finds none, and goes on to the next.
        job_id=f"{new_id().hex}-0",
        timeout=-1,
        result_ttl=0,
        ttl=_KEPT_S,
        description="",
    )
