"""Where a client stands: an opaque, signed text, good for one user.

A client has been told of all changes whose transactions its `base` shows as committed. That is a snapshot as PostgreSQL
makes them (`pg_snapshot`): unlike a number or a time it leaves out those transactions that were still running, so that
what commits late is never passed over.
"""

from uuid import UUID

import msgspec

from dues.reads.cursor import seal, unseal
from dues.settings import settings

# What no transaction is part of.
NOTHING = "1:1:"


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Of a walk of several pages: the transaction, type and id of the last change that was told."""

    xid: int
    type: str
    id: UUID


class Cursor(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """database: which one the snapshots are of. since: when `base` was taken, in seconds since 1970. revs: by type,
    what decided over what the client sees of it. fresh: the types that are told from the beginning. target, begun_at:
    up to where the present walk goes, and when it began, if it has more pages."""

    database: str = ""
    since: int = 0
    base: str = NOTHING
    revs: dict[str, str] = {}
    fresh: tuple[str, ...] = ()
    target: str = ""
    begun_at: int = 0
    after: Place | None = None


def write(cursor: Cursor, user_id: UUID) -> str:
    short = msgspec.structs.replace(cursor, base=_shorten(cursor.base), target=_shorten(cursor.target))
    return seal(msgspec.json.encode(short), binding=f"sync {user_id}", secret=settings().secret_key)


def read(text: str, user_id: UUID) -> Cursor | None:
    """None for a text that is no cursor of this user's."""
    payload = unseal(text, binding=f"sync {user_id}", secret=settings().secret_key)
    if payload is None:
        return None
    try:
        cursor = msgspec.json.decode(payload, type=Cursor)
        return msgspec.structs.replace(cursor, base=_lengthen(cursor.base), target=_lengthen(cursor.target))
    except ValueError:
        # One that another release has made.
        return None


def xmin(snapshot: str) -> int:
    """All transactions before this one are over."""
    return int(snapshot.partition(":")[0])


def _shorten(snapshot: str) -> str:
    """Of many transactions, how far each is behind the first."""
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
