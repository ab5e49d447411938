"""Jobs that do nothing: what taking one, running it and putting it away costs each worker.

Each contestant finds a backlog and is measured from its first look at it to the end of the last job.
"""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

from redis import Redis
from rq import Queue
from rq.serializers import JSONSerializer

from bench.data import Data
from bench.jobs_crews import Backlog, Crew, Marks, at_rest, on_turn, relay
from bench.jobs_worker import MARK, NOTHING, rq_id
from bench.report import Suite
from bench.rounds import Goal, interleave
from bench.servers import ROOT, peer_python

_RQ = "bench.peers.jobs_rq_nothing."


@dataclass(frozen=True)
class Counts:
    """How many jobs a backlog holds for each contestant: about as long a time for all."""

    loop: int
    whole: int
    simple: int
    forking: int
    celery: int


def counts(times: int) -> Counts:
    """For about `times` half seconds each, on a machine that is not slow."""
    return Counts(loop=500 * times, whole=150 * times, simple=150 * times, forking=30 * times, celery=300 * times)


def measure(suite: Suite, data: Data, rounds: int, counts: Counts) -> None:
    marks = Marks(data)
    loop, simple, forking = _of_rq(data, "lean"), _of_rq(data, "SimpleWorker"), _of_rq(data, "Worker")
    solo, prefork = _of_celery(data, "solo"), _of_celery(data, "prefork")
    worker = Crew("worker", [sys.executable, "-m", "bench.jobs_worker"], {**data.environ(), **_ONE_WORKER})
    relays = relay(data)
    with contextlib.closing(Backlog(data)) as backlog:
        whole = _Whole(backlog, worker, relays)
        with at_rest(worker, relays, *(each.crew for each in (loop, simple, forking, solo, prefork))):
            figures = interleave(
                rounds,
                {
                    "Dues' loop, RQ jobs": lambda: loop.rate(marks, counts.loop),
                    "Dues, whole jobs": lambda: whole.rate(marks, counts.whole),
                    "RQ SimpleWorker": lambda: simple.rate(marks, counts.simple),
                    "RQ Worker": lambda: forking.rate(marks, counts.forking),
                    "Celery, solo": lambda: solo.rate(marks, counts.celery),
                    "Celery, prefork": lambda: prefork.rate(marks, counts.celery),
                },
                "jobs/s",
                warm_up=False,
            )
    suite.table("Jobs that do nothing, one worker process", figures)
    mine = figures["Dues' loop, RQ jobs"].median
    suite.goal(Goal("Dues' loop / RQ SimpleWorker", mine / figures["RQ SimpleWorker"].median, 2))
    suite.goal(Goal("Dues' loop / RQ Worker", mine / figures["RQ Worker"].median, 8))


_ONE_WORKER = {"WORKER_QUEUES": "default:1"}


class _Paused:
    """Workers whose backlog waits in Redis."""

    def __init__(self, crew: Crew, put: Callable[[int], None]) -> None:
        self.crew, self._put = crew, put
        self._is_up = False

    def rate(self, marks: Marks, count: int) -> float:
        """Jobs a second of a backlog of `count`, and of the one more that marks its end."""
        if not self._is_up:
            self._put(10)
            with on_turn(self.crew):
                marks.wait()
            self._is_up = True
        self._put(count)
        began = time.time()
        with on_turn(self.crew):
            return (count + 1) / (marks.wait() - began)


class _Whole:
    """The worker of Dues, its jobs being rows in PostgreSQL that a relay hands over."""

    def __init__(self, backlog: Backlog, worker: Crew, relays: Crew) -> None:
        self._backlog, self._crews = backlog, (worker, relays)

    def rate(self, marks: Marks, count: int) -> float:
        with on_turn(*self._crews):
            # So that the worker has just looked for what no relay hands over, and will not soon again.
            self._backlog.add(MARK, [{}])
            self._backlog.commit()
            marks.wait()
            self._backlog.add(NOTHING, [{}] * count)
            self._backlog.add(MARK, [{}], priority=200)
            began = self._backlog.commit()
            return (count + 1) / (marks.wait() - began)


def _of_rq(data: Data, kind: str) -> _Paused:
    """RQ's worker of a class, as `rq worker` starts it, or the loop of Dues on RQ jobs."""
    name = f"bench-{kind.lower()}"
    if kind == "lean":
        argv = [sys.executable, "-m", "bench.jobs_worker", name]
        queue = Queue(name, connection=Redis.from_url(data.redis_url), serializer=JSONSerializer)
    else:
        argv = [sys.executable, "-m", "rq.cli", "worker", "-u", data.redis_url, "-w", f"rq.{kind}", "-q", name]
        queue = Queue(name, connection=Redis.from_url(data.redis_url))

    def put(count: int) -> None:
        calls = [f"{_RQ}nothing"] * count + [f"{_RQ}mark"]
        queue.enqueue_many([Queue.prepare_data(call, job_id=rq_id(uuid4())) for call in calls])

    return _Paused(Crew(name, argv, data.environ()), put)


def _of_celery(data: Data, pool: str) -> _Paused:
    """A worker of Celery with one process that runs tasks."""
    name = f"bench-celery-{pool}"
    broker = data.redis_url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
    env = {**data.peer_environ(), "PEER_BROKER": broker, "PEER_QUEUE": name}
    celery = [str(peer_python()), "-m", "celery", "-A", "peers.jobs_celery", "worker", "-l", "warning"]
    crew = Crew(name, [*celery, "--pool", pool, "--concurrency", "1", "-n", f"{pool}@%h"], env)

    def put(count: int) -> None:
        fill = [str(peer_python()), "-m", "peers.jobs_celery", str(count)]
        subprocess.run(fill, env=env, cwd=ROOT / "bench", check=True)

    return _Paused(crew, put)
