"""Calling again while PostgreSQL cannot be reached, so that a worker does not lose the result of work it has done."""

import time
from collections.abc import Callable
from typing import TypeVar

from dues.postgres import failure_of
from workers.interrupts import interrupts

T = TypeVar("T")

# After this time the job's lease has run out or soon will, and the relay gives the job to another worker. Seconds.
PATIENCE_S = 30.0
_AGAIN_S = 0.5


def patiently(ask: Callable[[], T], *, though_stopping: bool = False) -> T:
    """Call `ask` until it succeeds, for up to 30 s while it fails because of PostgreSQL. A worker that was told to stop
    does not try again, unless `though_stopping`. Returns: what `ask` returned. Raises: its last error."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except Exception as error:
            if failure_of(error) is None:
                raise
            if time.monotonic() > until or (interrupts.stopping and not though_stopping):
                raise
            time.sleep(_AGAIN_S)
