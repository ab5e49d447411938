"""Values of which there is to be one, and which people choose: an e-mail, a slug.

That a value is taken is found out before it is written. A unique constraint that is violated would do as well, but
PostgreSQL logs the statement that did it, with all that was to be written. Asking alone proves nothing, since another
writer may be about to take the value; so whoever is to write one first takes turns with all others who want the same:

    take_turns("users.email", email.lower())
    if fetch_row("select … where lower(email) = …"):
        raise Conflict(…)

An insert needs only `on conflict do nothing`, which waits for others by itself, but not for an update that takes turns.
"""

from dues.postgres.statements import run_later

_LOCK = "select pg_advisory_xact_lock(hashtextextended(%(name)s, 0))"


def take_turns(column: str, value: str) -> None:
    """Wait until nobody else is about to write this value, and have others wait until the present unit of work ends.
    It goes out with the next statement."""
    run_later(_LOCK, {"name": f"{column} {value}"})
