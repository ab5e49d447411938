"""Stopping the handler that runs in the main thread: at its time limit, or 20 s after the worker was told to stop.

One alarm serves both purposes. Its exception is raised only inside `during_handler()`, never in the code that claims
and finishes jobs.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from dues.jobs.exceptions import Drained, TimedOut

# Process managers (Kubernetes, Heroku) kill a process 30 s after SIGTERM.
DRAIN_S = 20.0


class Interrupts:
    """What may interrupt this process's main thread."""

    def __init__(self) -> None:
        self.stopping = False
        self._drain_at: float | None = None
        self._timeout_at: float | None = None

    def request_stop(self, drain_s: float | None = None) -> None:
        """Have the process end: a running handler gets `drain_s` more seconds, by default DRAIN_S. May be called in a
        signal handler."""
        if not self.stopping:
            self.stopping = True
            self._drain_at = time.monotonic() + (DRAIN_S if drain_s is None else drain_s)
            if self._timeout_at is not None:
                self._arm()

    def drained(self) -> bool:
        """Whether the process was told to stop and the time for its handler is over."""
        return self._drain_at is not None and time.monotonic() >= self._drain_at

    @contextmanager
    def during_handler(self, timeout_s: float) -> Iterator[None]:
        """Inside the block, raise TimedOut after `timeout_s`, or Drained when the time for a stop is over.

        This works in the main thread only, where Python runs signal handlers; in other threads nothing is raised.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before, around = signal.signal(signal.SIGALRM, self._on_alarm), self._timeout_at
        self._timeout_at = time.monotonic() + timeout_s
        self._arm()
        try:
            yield
        finally:
            self._timeout_at = around
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
            if around is not None:
                self._arm()

    def _arm(self) -> None:
        moments = [moment for moment in (self._timeout_at, self._drain_at) if moment is not None]
        signal.setitimer(signal.ITIMER_REAL, max(min(moments) - time.monotonic(), 0.001))

    def _on_alarm(self, number: int, frame: FrameType | None) -> None:
        timeout_at, self._timeout_at = self._timeout_at, None
        if timeout_at is None:
            return
        if self.drained():
            raise Drained
        if time.monotonic() >= timeout_at:
            raise TimedOut
        self._timeout_at = timeout_at
        self._arm()


interrupts = Interrupts()
