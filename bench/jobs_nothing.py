"""Jobs that do nothing: what it costs each kind of worker to take one, run it and complete it.

Each contestant finds a backlog, and is measured from when it starts on it until the end of the last job.
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
from bench.jobs_processes import Backlog, Mark, PausableProcess, relay, resumed, started_paused
from bench.jobs_worker import MARK, NOTHING, rq_id
from bench.report import Suite
from bench.rounds import Goal, interleave
from bench.servers import ROOT, peer_python

_RQ = "bench.peers.jobs_rq_nothing."


@dataclass(frozen=True)
class Counts:
    """How many jobs a backlog has for each contestant, so that all take about the same time."""

    loop: int
    whole: int
    simple: int
    forking: int
    celery: int


def counts(times: int) -> Counts:
    """The numbers for about `times` half seconds each, on a machine that is not slow."""
    return Counts(loop=500 * times, whole=150 * times, simple=150 * times, forking=30 * times, celery=300 * times)


def measure(suite: Suite, data: Data, rounds: int, counts: Counts) -> None:
    loop, simple, forking = _of_rq(data, "lean"), _of_rq(data, "SimpleWorker"), _of_rq(data, "Worker")
    solo, prefork = _of_celery(data, "solo"), _of_celery(data, "prefork")
    worker = PausableProcess("worker", [sys.executable, "-m", "bench.jobs_worker"], {**data.environ(), **_ONE_WORKER})
    relay_process = relay(data)
    with contextlib.closing(Backlog(data)) as backlog:
        whole = _DuesWorker(data, backlog, worker, relay_process)
        with started_paused(worker, relay_process, *(each.process for each in (loop, simple, forking, solo, prefork))):
            figures = interleave(
                rounds,
                {
                    "Dues' loop, RQ jobs": lambda: loop.rate(counts.loop),
                    "Dues, whole jobs": lambda: whole.rate(counts.whole),
                    "RQ SimpleWorker": lambda: simple.rate(counts.simple),
                    "RQ Worker": lambda: forking.rate(counts.forking),
                    "Celery, solo": lambda: solo.rate(counts.celery),
                    "Celery, prefork": lambda: prefork.rate(counts.celery),
                },
                "jobs/s",
                warm_up=False,
            )
    suite.table("Jobs that do nothing, one worker process", figures)
    loop_rate = figures["Dues' loop, RQ jobs"].median
    suite.goal(Goal("Dues' loop / RQ SimpleWorker", loop_rate / figures["RQ SimpleWorker"].median, 2))
    suite.goal(Goal("Dues' loop / RQ Worker", loop_rate / figures["RQ Worker"].median, 8))


_ONE_WORKER = {"WORKER_QUEUES": "default:1"}


class _RedisWorkers:
    """Workers whose backlog is in Redis."""

    def __init__(self, data: Data, process: PausableProcess, put: Callable[[int, str], None]) -> None:
        self._data, self.process, self._put = data, process, put
        self._is_warm = False

    def rate(self, count: int) -> float:
        """Jobs per second of a backlog of `count`, including the additional job that marks its end."""
        if not self._is_warm:
            self._seconds(10)
            self._is_warm = True
        return (count + 1) / self._seconds(count)

    def _seconds(self, count: int) -> float:
        mark = Mark(self._data)
        self._put(count, mark.name)
        began = time.time()
        with resumed(self.process):
            return mark.wait() - began


class _DuesWorker:
    """The worker of Dues, whose jobs are rows in PostgreSQL that a relay delivers."""

    def __init__(self, data: Data, backlog: Backlog, worker: PausableProcess, relay_process: PausableProcess) -> None:
        self._data, self._backlog, self._processes = data, backlog, (worker, relay_process)

    def rate(self, count: int) -> float:
        with resumed(*self._processes):
            # Afterwards the worker has just polled for jobs that no relay delivers, and will not do so again soon.
            self._seconds(0)
            return (count + 1) / self._seconds(count)

    def _seconds(self, count: int) -> float:
        mark = Mark(self._data)
        self._backlog.add(NOTHING, [{}] * count)
        self._backlog.add(MARK, [{"name": mark.name}], priority=200)
        began = self._backlog.commit()
        return mark.wait() - began


def _of_rq(data: Data, kind: str) -> _RedisWorkers:
    """RQ's worker class `kind`, as `rq worker` starts it; or, for `lean`, the loop of Dues on RQ jobs."""
    name = f"bench-{kind.lower()}"
    if kind == "lean":
        argv = [sys.executable, "-m", "bench.jobs_worker", name]
        queue = Queue(name, connection=Redis.from_url(data.redis_url), serializer=JSONSerializer)
    else:
        argv = [sys.executable, "-m", "rq.cli", "worker", "-u", data.redis_url, "-w", f"rq.{kind}", "-q", name]
        queue = Queue(name, connection=Redis.from_url(data.redis_url))

    def put(count: int, mark: str) -> None:
        calls: list[tuple[str, tuple[str, ...]]] = [("nothing", ())] * count + [("mark", (mark,))]
        queue.enqueue_many([Queue.prepare_data(_RQ + call, args, job_id=rq_id(uuid4())) for call, args in calls])

    return _RedisWorkers(data, PausableProcess(name, argv, data.environ()), put)


def _of_celery(data: Data, pool: str) -> _RedisWorkers:
    """A Celery worker with one process that runs tasks."""
    name = f"bench-celery-{pool}"
    broker = data.redis_url.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
    env = {**data.peer_environ(), "PEER_BROKER": broker, "PEER_QUEUE": name}
    celery = [str(peer_python()), "-m", "celery", "-A", "peers.jobs_celery", "worker", "-l", "warning"]
    process = PausableProcess(name, [*celery, "--pool", pool, "--concurrency", "1", "-n", f"{pool}@%h"], env)

    def put(count: int, mark: str) -> None:
        fill = [str(peer_python()), "-m", "peers.jobs_celery", str(count), mark]
        subprocess.run(fill, env=env, cwd=ROOT / "bench", check=True)

    return _RedisWorkers(data, process, put)
