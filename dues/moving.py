"""Which stores take no writes here, because they move to another Dues (dues/moves).

While a store moves, triggers refuse every write to its rows, with SQLSTATE DU503. A statement that writes to rows of
many stores would be refused for all of them. So each such statement passes over stores that move: their rows are seen
to where they have arrived, or here, once the move was given up.
"""

from uuid import UUID

from dues.postgres import fetch_row

# What the queue of a job begins with that no worker is to be offered, since its store moves.
HELD = "moving:"

_MOVING = "select coalesce(array_agg(m.store_id::text), '{}') from store_moves m where m.state <> 'here'"


def is_here(store_id: str) -> str:
    """An SQL condition: the store that a column names (with its table) does not move, nor has it left."""
    assert "." in store_id, "alone, the name would be that of a column of store_moves"
    return f"not exists (select 1 from store_moves m where m.store_id = {store_id} and m.state <> 'here')"


def stores_that_move() -> frozenset[UUID]:
    """Those that move now, and those that have left."""
    (found,) = fetch_row(_MOVING, {}) or ((),)
    return frozenset(map(UUID, found))
