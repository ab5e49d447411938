"""Processes of Dues that are forked from one that has imported all of it: to start Python for each would take most of
the tests' time."""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import flask.cli

from dues import failpoints
from local.__main__ import main

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.workers.serve", "tests.serve_web", "tests.forks", "tests.freeze"])


class Done(NamedTuple):
    """A process that has ended, and what it said. `returncode` is below 0 where a signal ended it."""

    returncode: int
    stdout: str
    stderr: str


class Forked:
    """A function that runs as a process, with what is used here of `subprocess.Popen`."""

    def __init__(self, target: Callable[..., None], *arguments: Any) -> None:
        self._process = context.Process(target=target, args=arguments)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """The status that it ended with, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """Returns: the status that it ended with. Raises: subprocess.TimeoutExpired."""
        self._process.join(timeout_s)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout_s or 0.0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def run_forked(
    function: Callable[..., None], *arguments: Any, environ: Mapping[str, str], timeout_s: float = 60
) -> Done:
    """Call a function of a module in a process of its own, with the settings and failpoints of `environ`. Raises:
    subprocess.TimeoutExpired."""
    with TemporaryDirectory() as folder:
        process = Forked(_call, function, arguments, environ, folder)
        code = process.wait(timeout_s)
        return Done(code, *((Path(folder) / name).read_text() for name in ("stdout", "stderr")))


def start(function: Callable[..., None], *arguments: Any, environ: Mapping[str, str], folder: Path) -> Forked:
    """As `run_forked`, but it goes on beside us. What it says is in the files `stdout` and `stderr` of the folder."""
    return Forked(_call, function, arguments, environ, str(folder))


def _call(function: Callable[..., None], arguments: tuple[Any, ...], environ: Mapping[str, str], folder: str) -> None:
    os.environ.clear()
    os.environ.update(environ)
    failpoints._armed = failpoints.parse(environ.get("DUES_FAILPOINTS", ""))
    for number, name in ((1, "stdout"), (2, "stderr")):
        with open(f"{folder}/{name}", "wb") as file:
            os.dup2(file.fileno(), number)
    function(*arguments)


def flask_command(*words: str, environ: Mapping[str, str]) -> Done:
    """`flask --app dues.app:create_base` and `words`: what an operator types where the web is not installed."""
    return run_forked(_be_flask, words, environ=environ)


def _be_flask(words: tuple[str, ...]) -> None:
    sys.argv = ["flask", "--app", "dues.app:create_base", *words]
    flask.cli.main()


def bin_run(*words: str, environ: Mapping[str, str]) -> Done:
    """A `bin/run` that ends by itself."""
    return run_forked(_be_bin_run, words, environ=environ)


def _be_bin_run(words: tuple[str, ...]) -> None:
    sys.exit(main(words))
