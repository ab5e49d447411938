"""Whether PostgreSQL refused something because its tables are not those of this release: looked at only once it has, so
that whoever meets no such error pays nothing.
"""

import time
from contextlib import closing, suppress
from typing import NamedTuple

import psycopg2

from config import Settings
from dues.postgres.revisions import Standing, standing_of
from dues.postgres.sessions import connect
from dues.postgres.sqlstate import sqlstate_of
from dues.settings import settings

# What PostgreSQL says, by how the code begins, of tables that are not as a statement takes them to be: there is no such
# thing (class 42); this word, or nothing at all, is not allowed in a column.
_OF_OTHER_TABLES = ("42", "22P02", "23502", "23514")
# A server all of whose requests fail asks no more often. In seconds.
_LOOK_EVERY_S = 1.0

# By the URL of a database: when it was looked at, and what was found; None where it did not say.
_looks: dict[str, tuple[float, Standing | None]] = {}


class WrongRelease(NamedTuple):
    """The tables are not those of this release. code, detail: for clients. told: for operators, in one line."""

    code: str
    detail: str
    told: str


def standing(config: Settings) -> Standing:
    """Where the database stands now. Raises: psycopg2.Error."""
    with closing(connect(config, "dues release")) as connection:
        return standing_of(connection)


def wrong_release_of(error: BaseException) -> WrongRelease | None:
    """What is wrong, if `error` is what a statement meets where a migration is missing, or where a newer release has
    changed the tables; None for anything else. Needs an application context, and for such an error asks PostgreSQL."""
    if not (sqlstate_of(error) or "").startswith(_OF_OTHER_TABLES):
        return None
    found = _lately(settings())
    if found and found.is_behind:
        return WrongRelease(
            "migrations_missing", "the database has not been migrated to this release yet", found.told()
        )
    if found and found.is_ahead:
        return WrongRelease("release_outdated", "the database belongs to a newer release already", found.told())
    return None


def _lately(config: Settings) -> Standing | None:
    looked_at, found = _looks.get(config.database_url, (float("-inf"), None))
    if time.monotonic() - looked_at >= _LOOK_EVERY_S:
        found = None
        with suppress(psycopg2.Error):
            found = standing(config)
        _looks[config.database_url] = time.monotonic(), found
    return found
