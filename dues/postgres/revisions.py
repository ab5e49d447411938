"""Which migrations this code knows, and whether a database has them.

Without Alembic, which `flask migrate` alone needs: it would take every process a tenth of a second to import.
"""

from functools import cache
from pathlib import Path
from typing import Any

# Alembic's folder. In `versions` each migration is a file whose name begins with its number and an underscore.
FOLDER = Path(__file__).resolve().parents[2] / "migrations"


@cache
def revisions(folder: Path) -> tuple[str, ...]:
    """The numbers of a folder's migrations, the oldest first."""
    return tuple(sorted(file.name.partition("_")[0] for file in (folder / "versions").glob("[0-9]*_*.py")))


def is_current(connection: Any) -> bool:
    """Whether the database has every migration this code was written for. `connection` is the driver's.

    It may have later ones: they are applied before the release that brings them takes over from this one.
    """
    with connection.cursor() as cursor:
        cursor.execute("select to_regclass('alembic_version') is not null")
        if not cursor.fetchone()[0]:
            return False
        cursor.execute("select version_num from alembic_version")
        found = cursor.fetchone()
    return found is not None and found[0] not in revisions(FOLDER)[:-1]
