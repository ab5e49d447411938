"""Processes of Dues that are forked from one that has imported all of it: to start Python for each would take most of
the tests' time."""

import multiprocessing
import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(["tests.workers.serve", "tests.serve_web"])


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
