"""How far a move has come: one row of `store_moves` for each store that was ever moved, here or away.

    holding -> copying -> switching -> leaving -> gone      where it leaves
                                     arriving -> here       where it arrives

Until `switching` is committed nothing has arrived anywhere, so the move can be given up. From then on the other end is
asked what has become of it. `leaving` and `arriving` are never committed: triggers know by them that the present
transaction moves the store.
"""

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from dues.jobs.stats import notice
from dues.postgres import fetch_row, transaction, unit_of_work
from dues.reads.tags import touch

State = Literal["holding", "copying", "switching", "leaving", "gone", "arriving", "here"]

_FIND = "select id, state, address, cell from store_moves where store_id = %(store_id)s"
_NOTE = """
    insert into store_moves(store_id, id, state) values (%(store_id)s, %(id)s, %(state)s)
    on conflict (store_id) do update set id = excluded.id, state = excluded.state, address = '', cell = '',
        changed_at = now()
    returning store_id
"""
# Whoever was taken for dead and goes on nevertheless finds that the move is not as it left it.
_CHANGE = """
    update store_moves set state = %(state)s, address = %(address)s, cell = coalesce(%(cell)s, cell), changed_at = now()
    where store_id = %(store_id)s and id = %(id)s and state = %(before)s returning store_id
"""
_FORGET = "delete from store_moves where store_id = %(store_id)s returning store_id"
_GONE = """
    select coalesce(json_agg(json_build_array(store_id, address) order by changed_at, store_id), '[]')
    from store_moves where state = 'gone'
"""
_UNFINISHED = """
    select coalesce(array_agg(store_id::text || ' (' || state || ')' order by changed_at, store_id), '{}')
    from store_moves where state in ('holding', 'copying', 'switching')
"""


class Overtaken(Exception):
    """The move is not as this process left it."""


@dataclass(frozen=True)
class Move:
    """A store's latest move. `address` is the URL of the Dues that it goes to, or went to, and `cell` which of those
    that share this URL; empty for the directory, and where there are no cells."""

    id: UUID
    state: State
    address: str
    cell: str


def find_move(store_id: UUID) -> Move | None:
    row = fetch_row(_FIND, {"store_id": store_id})
    return Move(*row) if row else None


def note(store_id: UUID, move_id: UUID, state: State) -> None:
    """Part of the caller's transaction()."""
    unit_of_work()
    fetch_row(_NOTE, {"store_id": store_id, "id": move_id, "state": state})


def begin(store_id: UUID, move_id: UUID, state: State) -> None:
    with transaction():
        note(store_id, move_id, state)


def switch(store_id: UUID, move_id: UUID, address: str, cell: str = "") -> None:
    """From this commit on nothing of the store is shown here. Raises: Overtaken."""
    with transaction():
        _change(store_id, move_id, "copying", "switching", address, cell)
        touch(f"store:{store_id}")


def leave(store_id: UUID, move_id: UUID, address: str) -> None:
    """Have the caller's transaction(), which is to call `note_gone()` at its end, take the store away. Raises:
    Overtaken."""
    _change(store_id, move_id, "switching", "leaving", address)


def note_gone(store_id: UUID, move_id: UUID, address: str) -> None:
    _change(store_id, move_id, "leaving", "gone", address)


def _change(store_id: UUID, move_id: UUID, before: State, state: State, address: str, cell: str | None = None) -> None:
    unit_of_work()
    values = {"store_id": store_id, "id": move_id, "before": before, "state": state, "address": address}
    if fetch_row(_CHANGE, values | {"cell": cell}) is None:
        raise Overtaken("another `flask stores move` has taken this move over")


def forget(store_id: UUID) -> None:
    """The move was given up."""
    with transaction():
        fetch_row(_FORGET, {"store_id": store_id})
        touch(f"store:{store_id}")


def unfinished_moves() -> list[str]:
    """The stores whose move is under way or was broken off, each with how far it has come."""
    (found,) = fetch_row(_UNFINISHED, {}) or ([],)
    return list(found)


@notice
def stores_that_are_held() -> str:
    found = ", ".join(unfinished_moves())
    return f"stores whose move is not over, and whose jobs are held: {found} (flask stores move)" if found else ""


def stores_that_left() -> list[tuple[UUID, str]]:
    """Each with the URL of the Dues where it is now."""
    (found,) = fetch_row(_GONE, {}) or ([],)
    return [(UUID(store_id), address) for store_id, address in found]
