"""Workers of Dues that also have jobs that do nothing: `python -m bench.jobs_worker [QUEUE]`.

Without QUEUE: `python -m workers.supervisor` with two more kinds of job. With QUEUE: only the loop of
workers/rq_worker.py. It takes each delivery as always, but instead of a notice about jobs of Dues, a delivery is an
independent RQ job, which is fetched, called and deleted, as RQ's own workers do.
"""

import os
import sys
from uuid import UUID

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from dues.jobs import Kind, Run
from workers import registry
from workers.app import create_worker_app
from workers.job import job
from workers.rq_queues import connect
from workers.rq_worker import LeanWorker
from workers.supervisor import supervise

NOTHING = Kind("bench.nothing", "default")
MARK = Kind("bench.mark", "default")


@job(NOTHING)
def nothing(run: Run) -> None:
    pass


@job(MARK)
def mark(run: Run, name: str) -> None:
    Redis.from_url(os.environ["REDIS_URL"]).rpush(name, "")


def rq_id(job_id: UUID) -> str:
    """An id of an RQ job in the form that deliveries have."""
    return f"{job_id.hex}-0"


class _LoopOnly(LeanWorker):
    def execute_job(self, job: Job, queue: Queue) -> None:
        Job.fetch(job.id, connection=self.connection, serializer=JSONSerializer).perform()
        self.connection.delete(job.key)


def _serve_loop_only(queue: str) -> None:
    _LoopOnly(create_worker_app(), queue, connect(os.environ["REDIS_URL"])).work(logging_level=None)  # type: ignore[arg-type]


if __name__ == "__main__":
    assert registry.MODULES
    if sys.argv[1:]:
        _serve_loop_only(sys.argv[1])
    else:
        supervise()
