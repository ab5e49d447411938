"""In the directory: which cell has a store. What has no row is the directory's own, if it is anywhere.

A row is written before the cell makes the store, so no store is ever unknown. Where the cell then refuses to make it,
the row is found later, and deleted once the cell has been asked (`forget_unmade`).
"""

from hashlib import blake2b, sha256
from typing import NamedTuple
from uuid import UUID

from dues.cells.calls import Caller
from dues.cells.signatures import addresses
from dues.errors import Conflict, Problem
from dues.ids import new_id
from dues.postgres import fetch_row, transaction, unit_of_work
from dues.reads.tags import touch

_BATCH = 100

_FIND = "select cell from store_places where store_id = %(store_id)s"
# Of two at once the second waits for the first, and finds its row. The key of a store that has been made is forgotten
# a day later, as the cell forgets its answer, however often it comes.
_RESERVE = """
    insert into store_places(store_id, cell, asked_by) values (%(store_id)s, %(cell)s, %(asked_by)s)
    on conflict (asked_by) do update
        set asked_at = case when store_places.made_at is null then now() else store_places.asked_at end
    returning store_id, cell
"""
_PUT = """
    insert into store_places(store_id, cell, made_at) values (%(store_id)s, %(to)s, now())
    on conflict (store_id) do update set cell = excluded.cell, made_at = coalesce(store_places.made_at, now())
    returning cell
"""
_LOCK = "select pg_advisory_xact_lock(hashtextextended('store_places ' || %(store_id)s::uuid, 0))"
# An hour: what was said of a request to make one is void after a minute, and an answer kept for a key after a day.
_UNMADE = """
    select store_id, asked_at::text from store_places
    where made_at is null and asked_at < now() - interval '1 hour' and cell = %(cell)s
        and (asked_at, store_id) > (%(asked_at)s::timestamptz, %(after)s::uuid)
    order by asked_at, store_id limit 1
"""
_MADE = "update store_places set made_at = now() where store_id = %(store_id)s returning store_id"
_NOT_MADE = """
    delete from store_places where store_id = %(store_id)s and asked_at = %(asked_at)s::timestamptz and made_at is null
    returning store_id
"""
_FORGET_KEYS = """
    with old as (
        select store_id from store_places where asked_by is not null and asked_at < now() - interval '25 hours'
        order by asked_at limit %(most)s for update skip locked),
    gone as (update store_places p set asked_by = null from old where p.store_id = old.store_id returning 1)
    select count(*) from gone
"""
_COUNTS = """
    select coalesce(json_object_agg(cell, stores), '{}')::text
    from (select cell, count(*) as stores from store_places group by 1) counts
"""


class Place(NamedTuple):
    """A store, and the cell that has it."""

    store_id: UUID
    cell: str


def place_tag(store_id: UUID) -> str:
    return f"store:{store_id}:place"


def cell_of(store_id: UUID) -> str:
    """Empty for the directory's own, and for what is no store."""
    row = fetch_row(_FIND, {"store_id": store_id})
    return row[0] if row else ""


def reserve(user_id: UUID, key: str | None) -> Place:
    """The id and the cell of a store that this user asks for: the same again for the same Idempotency-Key. Part of the
    caller's transaction()."""
    unit_of_work()
    asked_by = sha256(user_id.bytes + key.encode()).digest() if key else None
    found = fetch_row(_RESERVE, {"store_id": new_id(), "cell": cell_for(user_id), "asked_by": asked_by})
    assert found
    place = Place(*found)
    touch(place_tag(place.store_id))
    return place


def cell_for(user_id: UUID) -> str:
    """The cell in which this user's new stores are made: as many users for each, and as few as can be for another one
    once there is a further cell (rendezvous hashing)."""
    return max(addresses(), key=lambda name: blake2b(name.encode() + user_id.bytes).digest())


def require_move(store_id: UUID, origin: str, to: str) -> None:
    """Raises: Conflict where the store is not at `origin`, or there is no cell `to`."""
    if to and to not in addresses():
        raise Conflict(f"the directory knows no cell {to}: CELLS does not name it")
    if (found := cell_of(store_id)) not in (origin, to):
        raise Conflict(f"the store is in {found or 'the directory'}, as the directory has it")


def put(store_id: UUID, origin: str, to: str) -> None:
    """A store has moved from one to another: requests go there from the commit on. Again it changes nothing. Part of
    the caller's transaction(). Raises: Conflict."""
    unit_of_work()
    fetch_row(_LOCK, {"store_id": store_id})
    require_move(store_id, origin, to)
    fetch_row(_PUT, {"store_id": store_id, "to": to})
    touch(place_tag(store_id))


def forget_unmade(call: Caller) -> int:
    """Ask the cells about stores that nobody knows to have been made. Returns: how many were not."""
    return sum(_forget_unmade_of(cell, call) for cell in addresses())


def _forget_unmade_of(cell: str, call: Caller) -> int:
    after, asked_at, forgotten = UUID(int=0), "-infinity", 0
    while row := fetch_row(_UNMADE, {"cell": cell, "after": after, "asked_at": asked_at}):
        after, asked_at = row
        try:
            is_made = bool(call(cell, "GET", f"/cells/stores/{after}")["is_here"])
        except Problem:
            # It would say no more of the others. They are found next time.
            break
        with transaction():
            unit_of_work()
            if is_made:
                fetch_row(_MADE, {"store_id": after})
            # Whoever has asked for it again meanwhile may have made it.
            elif fetch_row(_NOT_MADE, {"store_id": after, "asked_at": asked_at}):
                forgotten += 1
                touch(place_tag(after))
    return forgotten


def forget_keys() -> int:
    """Part of the caller's transaction(). Returns: how many; 0 means that none are left."""
    unit_of_work()
    (count,) = fetch_row(_FORGET_KEYS, {"most": _BATCH}) or (0,)
    return int(count)


def counts() -> str:
    """How many stores each cell has, as JSON; with those that nobody knows yet to have been made."""
    (found,) = fetch_row(_COUNTS, {}) or ("{}",)
    return str(found)
