"""A client's position: an opaque, signed text, valid for one user.

The client has received all changes whose transactions are committed according to `base`, which is a snapshot of
PostgreSQL's (`pg_snapshot`). Unlike a number or a time, a snapshot excludes the transactions that were still running,
so a transaction that commits late is never skipped.
"""

from uuid import UUID

import msgspec

from dues.reads.cursor import seal, unseal
from dues.settings import settings

# A snapshot that contains no transaction.
NOTHING = "1:1:"


class Place(msgspec.Struct, frozen=True, array_like=True):
    """The position within a pull of several pages: the transaction, type and id of the last change sent."""

    xid: int
    type: str
    id: UUID


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """`database` identifies the database of the snapshots. `since` is when `base` was taken, in seconds since 1970.
    `revs`: for each type, a digest of the facts that decided what the client may see of it. `fresh`: the types that are
    sent from the beginning. `target` and `begun_at`: the snapshot up to which the present pull goes, and when it began,
    if it has more pages."""

    database: str = ""
    since: int = 0
    base: str = NOTHING
    revs: dict[str, str] = {}
    fresh: tuple[str, ...] = ()
    target: str = ""
    begun_at: int = 0
    after: Place | None = None


def write(cursor: Cursor, user_id: UUID) -> str:
    """The text of a cursor for a user."""
    short = msgspec.structs.replace(cursor, base=_shorten(cursor.base), target=_shorten(cursor.target))
    return seal(msgspec.json.encode(short), binding=f"sync {user_id}", secret=settings().secret_key)


def read(text: str, user_id: UUID) -> Cursor | None:
    """The cursor in a text; None if it is not a cursor of this user."""
    payload = unseal(text, binding=f"sync {user_id}", secret=settings().secret_key)
    if payload is None:
        return None
    try:
        cursor = msgspec.json.decode(payload, type=Cursor)
        return msgspec.structs.replace(cursor, base=_lengthen(cursor.base), target=_lengthen(cursor.target))
    except ValueError:
        # A cursor made by another release.
        return None


def xmin(snapshot: str) -> int:
    """The transaction before which all transactions have ended."""
    return int(snapshot.partition(":")[0])


def _shorten(snapshot: str) -> str:
    """A snapshot with its transactions as distances from the first."""
    if not snapshot:
        return ""
    first, after, running = snapshot.split(":")
    behind = [str(int(xid) - int(first)) for xid in [after, *running.split(",")] if xid]
    return f"{first}:{','.join(behind)}"


def _lengthen(short: str) -> str:
    if not short:
        return ""
    first, _, behind = short.partition(":")
    after, *running = [str(int(first) + int(distance)) for distance in behind.split(",")]
    return f"{first}:{after}:{','.join(running)}"
