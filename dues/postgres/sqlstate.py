"""What an error of PostgreSQL means for the statement that met it: decided by what the server said (its SQLSTATE,
chapter "PostgreSQL Error Codes" of its manual), not by the class that the driver makes of it.
"""

from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import psycopg2
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

T = TypeVar("T")


class Failure(NamedTuple):
    """A failure that is no fault of the program.

    detail: a sentence for the client. drops: the connection is of no more use, and those opened before it hardly are
    (the server goes away, or takes no writes any more), so the next is to be opened anew. repeatable: the same unit of
    work may well succeed if it is done again at once.
    """

    detail: str
    drops: bool = False
    repeatable: bool = False


class Unconfirmed(psycopg2.OperationalError):
    """A transaction is committed, but the standby that its commit had to wait for may not have it: a failover may
    undo it, so nobody is to be told that it is done. As where a connection is lost during a COMMIT, whoever began it
    has to look what has become of it."""


_BUSY = Failure("the database is busy")
_AWAY = Failure("the database is not available", drops=True)
_READ_ONLY = Failure("the database takes no writes at the moment", drops=True)
_TOO_SLOW = Failure("the database did not answer in time")
_FULL = Failure("the database has no room or memory left for this at the moment")
_CONTENDED = Failure("others are changing the same at this moment", repeatable=True)
_UNCONFIRMED = Failure("no standby has confirmed yet what was written")
_OUTDATED = Failure("the database has changed meanwhile", drops=True, repeatable=True)

# Raised by the triggers of dues/moves/fence.py, whatever writes to the store.
STORE_MOVES = "DU503"

# A statement that Citus cannot carry out; PostgreSQL itself says so of none of ours.
NOT_SUPPORTED = "0A000"

# By the whole code, else by its class: the first two letters.
_FAILURES = {
    "08": _AWAY,
    "25006": _READ_ONLY,
    "25P03": Failure("the database gave up a transaction that stood still", drops=True),
    "25P04": Failure("the database gave up a transaction that took too long", drops=True),
    "26000": _OUTDATED,
    "40001": _CONTENDED,
    "40P01": _CONTENDED,
    "53": _FULL,
    "53300": Failure("the database has no connection left", drops=True),
    "55P03": _TOO_SLOW,
    "57014": _TOO_SLOW,
    "57P": _AWAY,
    "58": Failure("the database's disk fails"),
    STORE_MOVES: Failure("this store is being moved to another server"),
}


# What the server is set up without, and an operator can mend; a request that meets one of these fails as by a bug.
_SET_UP = {
    "28": "the role of DATABASE_URL is not let in",
    "3D000": "there is no such database",
    "42501": "the role of DATABASE_URL has no right to this",
}

# A row refers to one that is not there.
_FOREIGN_KEY = "23503"


def is_repeatable(error: BaseException) -> bool:
    """Whether the unit of work that met this error may end otherwise if it is done again at once. One that refers to a
    row which another has just deleted finds that out before it writes."""
    failure = failure_of(error)
    return (failure is not None and failure.repeatable) or sqlstate_of(error) == _FOREIGN_KEY


def sqlstate_of(error: BaseException | None) -> str | None:
    """The code that the server gave; None where it said nothing, or it is no error of the database's."""
    driver_error = error.orig if isinstance(error, DBAPIError) else error
    return driver_error.pgcode if isinstance(driver_error, psycopg2.Error) else None


def failure_of(error: BaseException | None) -> Failure | None:
    """What an error of the driver's, of SQLAlchemy's around it, or of the pool's means; None where it is a bug of
    ours, or no error of the database's."""
    if isinstance(error, PoolTimeout):
        return _BUSY
    code = sqlstate_of(error)
    driver_error = error.orig if isinstance(error, DBAPIError) else error
    if code is None:
        # The server said nothing: it could not be reached, or the connection broke.
        if isinstance(driver_error, Unconfirmed):
            return _UNCONFIRMED
        is_lost = isinstance(driver_error, (psycopg2.OperationalError, psycopg2.InterfaceError))
        return _AWAY if is_lost else None
    if code == NOT_SUPPORTED and isinstance(driver_error, psycopg2.Error):
        # Where in PostgreSQL it was said: the words are in the server's language.
        return _OUTDATED if driver_error.diag.source_function == "RevalidateCachedQuery" else None
    return _by_code(_FAILURES, code)


def _by_code(table: Mapping[str, T], code: str) -> T | None:
    return next((table[code[:length]] for length in (5, 3, 2) if code[:length] in table), None)


def told(error: BaseException) -> str:
    """An error of the database in one line for an operator: what it means, and the first line of what was said, which
    names no values of rows."""
    meaning, said = _meaning(error), str(getattr(error, "orig", error)).strip().partition("\n")[0]
    return f"{meaning}: {said}" if meaning else said


def refusal_of(error: BaseException) -> str | None:
    """As `told()`, where it is something that an operator can mend or wait for; None for a bug of ours."""
    return told(error) if _meaning(error) else None


def _meaning(error: BaseException) -> str | None:
    if failure := failure_of(error):
        return failure.detail
    return _by_code(_SET_UP, sqlstate_of(error) or "")
