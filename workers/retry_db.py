"""Waiting for a PostgreSQL that is away, so that what a worker knows need not be found out anew."""

import time
from collections.abc import Callable
from typing import TypeVar

from dues.postgres import failure_of
from workers.interrupts import interrupts

T = TypeVar("T")

# Afterwards the job's lease has run out, or soon will, and the relay has it done anew.
PATIENCE_S = 30.0
_AGAIN_S = 0.5


def patiently(ask: Callable[[], T], *, though_stopping: bool = False) -> T:
    """What `ask` returns. It is called again while PostgreSQL cannot do it, for up to 30 s; a worker that was told to
    stop does not wait, unless `though_stopping`. Raises: what `ask` does, in the end."""
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
