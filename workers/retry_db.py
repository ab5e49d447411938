"""Waiting for a PostgreSQL that is away, so that what a worker knows need not be found out anew."""

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg2
import sqlalchemy.exc

from workers.interrupts import interrupts

T = TypeVar("T")

# Afterwards the job's lease has run out, or soon will, and the relay has it done anew.
PATIENCE_S = 30.0
_AGAIN_S = 0.5
_AWAY = (
    psycopg2.OperationalError,
    psycopg2.InterfaceError,
    sqlalchemy.exc.OperationalError,
    sqlalchemy.exc.InterfaceError,
)


def patiently(ask: Callable[[], T], *, though_stopping: bool = False) -> T:
    """What `ask` returns. It is called again while PostgreSQL is away, for up to 30 s; a worker that was told to stop
    does not wait, unless `though_stopping`. Raises: what `ask` does, in the end."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return ask()
        except _AWAY:
            if time.monotonic() > until or (interrupts.stopping and not though_stopping):
                raise
            time.sleep(_AGAIN_S)
