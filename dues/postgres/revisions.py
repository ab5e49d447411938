"""Which migrations this code knows, and whether a database has them.

Without Alembic, which `flask migrate` alone needs: it would take every process a tenth of a second to import.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

# Alembic's folder. In `versions` each migration is a file whose name begins with its number and an underscore.
FOLDER = Path(__file__).resolve().parents[2] / "migrations"


@cache
def revisions(folder: Path) -> tuple[str, ...]:
    """The numbers of a folder's migrations, the oldest first."""
    return tuple(sorted(file.name.partition("_")[0] for file in (folder / "versions").glob("[0-9]*_*.py")))


class Standing(NamedTuple):
    """Where a database stands. found: its migration, None before the first. newest: the newest that this code knows."""

    found: str | None
    newest: str
    is_behind: bool
    is_ahead: bool

    def told(self) -> str:
        """In words for an operator."""
        at = f"at migration {self.found}" if self.found else "without any migration"
        if self.is_ahead:
            return f"the database is {at}, of a newer release than this one, whose newest is {self.newest}"
        todo = ": flask --app wsgi migrate" if self.is_behind else ""
        return f"the database is {at}, and this release needs {self.newest}{todo}"


def standing_of(connection: Any) -> Standing:
    """Where the database of `connection`, which is the driver's, stands. It may have migrations that are later than
    this code's: they are applied before the release that brings them takes over from this one.

    Raises: psycopg2.Error.
    """
    found = None
    with connection.cursor() as cursor:
        cursor.execute("select to_regclass('alembic_version') is not null")
        if cursor.fetchone()[0]:
            cursor.execute("select version_num from alembic_version")
            (found,) = cursor.fetchone() or (None,)
    known = revisions(FOLDER)
    return Standing(found, known[-1], found is None or found in known[:-1], found is not None and found not in known)
