"""The process runner: what dies comes back, what ends takes everything with it, and nobody else is touched."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from local.process import CannotStart
from local.supervisor import read_procfile
from tests.servers import wait_until

PROJECT = Path(__file__).resolve().parents[2]

# Runs the programs given as arguments, each `name=python code`, until it is told to stop.
RUNNER = """
import sys
from pathlib import Path
from local.process import Program
from local.supervisor import Supervisor

programs = [
    Program(name=name, argv=[sys.executable, "-c", code], cwd=Path.cwd())
    for name, _, code in (argument.partition("=") for argument in sys.argv[2:])
]
with Supervisor(lambda line: print(line, flush=True), Path(sys.argv[1]), grace_s=1.0) as supervisor:
    supervisor.keep(*programs)
    supervisor.wait_until_ready()
    supervisor.watch()
"""
SLEEPER = "import os, time; print('up', os.getpid(), flush=True); time.sleep(600)"
STUBBORN = "import signal, os, time; signal.signal(15, signal.SIG_IGN); " + SLEEPER
# Starts a process in a session of its own, as workers do for long jobs, and tells its number.
PARENT = (
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'],"
    " start_new_session=True); print('up', child.pid, flush=True); time.sleep(600)"
)


class Run:
    """A supervisor at work, and the lines it has said."""

    def __init__(self, folder: Path, *programs: str) -> None:
        self.output = folder / "output"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", RUNNER, str(folder / "run"), *programs],
                cwd=PROJECT,
                stdout=output,
                stderr=output,
            )

    def lines(self) -> list[str]:
        return self.output.read_text().splitlines()

    def pids(self, name: str) -> list[int]:
        """The processes that a program's `up` lines name, in order."""
        said = [line.split() for line in self.lines()]
        return [int(words[3]) for words in said if words[:3] == [name, "|", "up"]]

    def wait_for_pid(self, name: str, number: int = 1, timeout_s: float = 10) -> int:
        wait_until(lambda: len(self.pids(name)) >= number, timeout_s, f"start {number} of {name}")
        return self.pids(name)[number - 1]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def start(*programs: str) -> Run:
        runs.append(Run(tmp_path, *programs))
        return runs[-1]

    yield start
    for started in runs:
        if started.process.poll() is None:
            started.process.terminate()
        started.process.wait(10)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_what_dies_is_started_again_at_once_with_one_line(run: Callable[..., Run]) -> None:
    started = run(f"web={SLEEPER}", f"relay={SLEEPER}")
    relay = started.wait_for_pid("relay")
    first = started.wait_for_pid("web")
    os.kill(first, signal.SIGKILL)
    began = time.monotonic()
    second = started.wait_for_pid("web", 2)
    assert time.monotonic() - began < 5
    assert second != first
    about_it = [line for line in started.lines() if "|" not in line]
    assert about_it == ["web was killed by SIGKILL; starting it again"]
    assert started.pids("relay") == [relay]


def test_one_that_dies_at_once_is_started_more_and_more_slowly(run: Callable[..., Run]) -> None:
    started = run("web=raise SystemExit(3)")
    wait_until(lambda: len(started.lines()) >= 3)
    assert started.lines()[:3] == [
        "web ended with 3; starting it again",
        "web ended with 3; starting it again in 0.5 s",
        "web ended with 3; starting it again in 1 s",
    ]


def test_ending_takes_all_descendants_and_nobody_else(run: Callable[..., Run]) -> None:
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    try:
        started = run(f"worker={PARENT}", f"web={SLEEPER}")
        grandchild, web = started.wait_for_pid("worker"), started.wait_for_pid("web")
        started.process.send_signal(signal.SIGTERM)
        assert started.process.wait(10) == 0
        assert is_gone(grandchild)
        assert is_gone(web)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_one_that_does_not_listen_is_killed_after_the_grace(run: Callable[..., Run]) -> None:
    started = run(f"web={STUBBORN}")
    web = started.wait_for_pid("web")
    began = time.monotonic()
    started.process.send_signal(signal.SIGINT)
    assert started.process.wait(10) == 0
    assert time.monotonic() - began < 5
    assert is_gone(web)
    assert "web did not end in time: killing it" in started.lines()


def test_a_dead_program_takes_its_descendants_along_before_it_is_started_again(run: Callable[..., Run]) -> None:
    started = run(f"web={PARENT}")
    grandchild = started.wait_for_pid("web")
    [parent] = [child for child in psutil.Process(started.process.pid).children() if child.pid != grandchild]
    parent.kill()
    started.wait_for_pid("web", 2)
    assert is_gone(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process does not learn that its parent died")
def test_killing_the_runner_ends_what_it_started(run: Callable[..., Run]) -> None:
    started = run(f"web={SLEEPER}")
    web = started.wait_for_pid("web")
    started.process.kill()
    wait_until(lambda: is_gone(web), 5)


def test_what_a_killed_run_left_is_ended_by_the_next(run: Callable[..., Run]) -> None:
    killed = run(f"web={STUBBORN}")
    left = killed.wait_for_pid("web")
    killed.process.kill()
    killed.process.wait()
    assert not is_gone(left)
    following = run(f"web={SLEEPER}")
    following.wait_for_pid("web", 2)
    assert is_gone(left)


def test_a_procfile_names_every_program(tmp_path: Path) -> None:
    procfile = tmp_path / "Procfile"
    procfile.write_text("# all of it\nweb: serve --port 1\n\nworker: work\n")
    [worker, web] = read_procfile(procfile, ["worker", "web"], {"A": "b"})
    assert (worker.name, worker.argv[-1]) == ("worker", "exec work")
    assert (web.name, web.argv[-1], web.env) == ("web", "exec serve --port 1", {"A": "b"})
    with pytest.raises(CannotStart, match="has no relay"):
        read_procfile(procfile, ["relay"], {})


def test_what_the_docs_have_operators_run_is_what_the_procfile_runs() -> None:
    operating = (PROJECT / "docs" / "operating.md").read_text()
    for line in (PROJECT / "Procfile").read_text().splitlines():
        name, _, command = line.partition(": ")
        assert re.search(rf"^\$ {re.escape(command)} +# {name}\b", operating, re.MULTILINE), line
