"""Real workers, relays and their jobs."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import redis
from redis import Redis

from tests.forks import context
from tests.jobs.conftest import Jobs, in_app, jobs
from tests.servers import Backing, Servers, wait_until
from tests.workers.serve import serve

__all__ = ["in_app", "jobs"]

Process = ForkServerProcess


class Notes:
    """The file in which the jobs of a test say what they do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def args(self) -> dict[str, str]:
        return {"file": str(self.path)}

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def words(self) -> list[str]:
        return [line.split()[0] for line in self.lines()]

    def pids(self) -> list[int]:
        return [int(line.split()[2]) for line in self.lines()]

    def wait(self, *words: str) -> None:
        wait_until(lambda: self.words() == list(words), 20, f"the notes {words}; there are {self.words()}")

    def go(self) -> None:
        """Let the jobs that wait go on."""
        Path(f"{self.path}.go").touch()


@pytest.fixture
def notes(tmp_path: Path) -> Notes:
    return Notes(tmp_path / "notes")


@pytest.fixture
def redis_client(servers: Servers) -> Iterator[Redis]:
    with closing(redis.Redis.from_url(servers.redis_url)) as client:
        yield client


class Processes:
    """Relays and supervisors of workers, as processes."""

    def __init__(self, servers: Backing) -> None:
        self._servers = servers
        self.started: list[Process] = []

    def start(self, what: str, *, drain_s: float = 20.0, **environ: str) -> Process:
        """`relay` or `workers`."""
        process = context.Process(target=serve, args=(what, self._servers.environ(**environ), drain_s))
        process.start()
        self.started.append(process)
        return process

    def start_both(self, queues: str, **options: Any) -> tuple[Process, Process]:
        return self.start("relay", **options), self.start("workers", WORKER_QUEUES=queues, **options)

    def end(self) -> None:
        family = [member for process in self.started for member in children(process)]
        for process in self.started:
            process.terminate()
        codes = [ended(process, 30) for process in self.started]
        for member in family:
            if member.is_running():
                member.kill()
        assert None not in codes


def ended(process: Process, timeout_s: float = 10.0) -> int | None:
    """The exit code of a process, once it has one, or None after `timeout_s`."""
    process.join(timeout_s)
    return process.exitcode


def children(process: Process) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


@pytest.fixture
def processes(servers: Servers, clean: None) -> Iterator[Processes]:
    """For tests that need processes of their own."""
    processes = Processes(servers)
    yield processes
    processes.end()


@pytest.fixture(scope="module")
def crew(servers: Servers) -> Iterator[None]:
    """A relay, two workers of `default` and one of `slow`, which serve all the tests of a module."""
    servers.clean()
    processes = Processes(servers)
    processes.start_both("default:2,slow:1")
    yield
    processes.end()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def wait_for_status(jobs: Jobs, job_id: UUID, status: str) -> None:
    wait_until(lambda: jobs.row(job_id).status == status, 20, f"the job to be {status}")
