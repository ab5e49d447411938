"""Workers of Dues that also know how to do nothing: `python -m bench.jobs_worker [QUEUE]`.

Without QUEUE: `python -m workers.supervisor` with two more kinds of job. With it: the loop of workers/rq_worker.py and
nothing below it. Each delivery is taken and put away as always, but in place of a job of Dues it names an RQ job, which
is fetched and called: what RQ's own workers do for one.
"""

import os
import sys
from uuid import UUID

from redis import Redis
from rq.job import Job
from rq.serializers import JSONSerializer

from dues.jobs import Kind, Run
from workers import registry as bodies
from workers import rq_worker
from workers import supervisor as run
from workers.app import create_worker_app
from workers.job import job
from workers.rq_queues import connect

NOTHING = Kind("bench.nothing", "default")
MARK = Kind("bench.mark", "default")


@job(NOTHING)
def nothing(run: Run) -> None:
    pass


@job(MARK)
def mark(run: Run, name: str) -> None:
    Redis.from_url(os.environ["REDIS_URL"]).rpush(name, "")


def rq_id(job_id: UUID) -> str:
    """An RQ job's id as that of a delivery."""
    return f"{job_id.hex}-0"


def _serve_bare(queue: str) -> None:
    redis = connect(os.environ["REDIS_URL"])

    def perform(job_id: str, delivery: int = 0) -> None:
        Job.fetch(rq_id(UUID(job_id)), connection=redis, serializer=JSONSerializer).perform()

    rq_worker.perform = perform  # type: ignore[attr-defined]
    run.serve(create_worker_app(), queue)


if __name__ == "__main__":
    assert bodies.MODULES
    if sys.argv[1:]:
        _serve_bare(sys.argv[1])
    else:
        run.supervise()
