"""Changing tables that others use: one change of the schema at a time, and nobody waits for it for long.

A change of a table waits for the transactions that use the table, and all later ones wait behind it. So it waits no
longer than LOCK_TIMEOUT_S, lets them pass, and tries again.
"""

import time
from collections.abc import Callable
from typing import TypeVar

import psycopg2
from sqlalchemy.exc import DBAPIError

from dues.postgres.sqlstate import sqlstate_of

T = TypeVar("T")
Tell = Callable[[str], None]

# Any number that no other advisory lock of Dues uses: whatever changes tables takes it.
SCHEMA_LOCK = 0x64756573
LOCK_TIMEOUT_S = 2.0
GIVE_UP_AFTER_S = 900.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 15.0
# A lock that was not to be had in time, a deadlock, and a transaction that would have to be done again.
_TRY_AGAIN = ("55P03", "40P01", "40001")


def patiently(change: Callable[[], T], tell: Tell, until: float) -> T:
    """What `change` returns, which is tried again where it could not lock what it changes, until `time.monotonic()` is
    `until`; `tell` is given a line before each pause. Raises: what `change` does, in the end."""
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return change()
        except (DBAPIError, psycopg2.Error) as error:
            if sqlstate_of(error) not in _TRY_AGAIN or time.monotonic() + pause_s > until:
                raise
        tell(f"could not lock what it changes: trying again in {pause_s:.0f} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
