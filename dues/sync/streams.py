"""Conditions that the statements of sync share: which changes of a stream somebody may be shown.

A change of a row that they may not see is shown as a deletion, since they may have seen the row before. It is left out
if they cannot have seen it: drafts, posts for members of other packages and, with a token that is restricted to a
store, the user's rows in other stores.
"""

from dues.sync.types import TYPES

# The first transaction that had not begun when the statement began. Changes that came with a dump may have higher
# numbers, which this server has not reached yet: they are older than everything that happened here.
FIRST_TO_COME = "pg_snapshot_xmax(pg_current_snapshot())"


def type_names(which: str) -> str:
    """The names of the types that have an attribute set, as a list in SQL."""
    return ", ".join(f"'{name}'" for name, synced in TYPES.items() if getattr(synced, which))


# For a change `c` in the stream `p`. `p.rooms` are a member's packages and the store, and null for the store's staff
# and for a user's own stream. `p.only_store` is the store that the token is restricted to, if any, and set for a user's
# own stream only. A post belongs to that store if it is in the store's stream, deleted or not.
MAY_BE_SHOWN = f"""
    (p.rooms is null or c.shown_to is null or c.shown_to && p.rooms)
    and (p.only_store is null or c.type not in ({type_names("where")}) or c.within_id = p.only_store or exists (
        select from sync_changes t where t.stream_id = p.only_store and t.type = 'post' and t.id = c.within_id))
"""
