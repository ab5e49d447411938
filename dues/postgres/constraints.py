"""Unique values that people choose: an e-mail, a slug.

Whether a value is taken is found out before it is written. Violating a unique constraint would tell as well, but
PostgreSQL logs the statement that did it, with all that was to be written. Asking alone proves nothing, since another
transaction may be about to take the value; so writers of the same value first take turns:

    take_turns("users.email", email.lower())
    if fetch_row("select … where lower(email) = …"):
        raise Conflict(…)

An insert needs only `on conflict do nothing`, which waits for others by itself, but not for an update that takes turns.
"""

from hashlib import sha256

from dues.postgres.statements import run_later

_LOCK = "select pg_advisory_xact_lock(%(key)s)"


def take_turns(column: str, value: str) -> None:
    """Wait until nobody else is about to write this value, and have others wait until the present unit of work ends.
    It goes out with the next statement."""
    run_later(_LOCK, {"key": lock_key(column, value)})


def lock_key(column: str, value: str) -> int:
    """What stands for a value among PostgreSQL's advisory locks, and tells nothing of it: a wait that is given up is
    logged, too."""
    return int.from_bytes(sha256(f"{column} {value}".encode()).digest()[:8], signed=True)
