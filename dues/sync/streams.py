"""What the statements of sync share: which changes of a stream somebody may be told.

Those to rows that they may not see are told as deletions, since they may have seen them before. Who cannot have is not
told: not of drafts, of posts for members of other packages, nor, with a token that is bound to a store, of what is the
user's in others.
"""

from dues.sync.types import TYPES

# The number of the first transaction that was not begun when the statement was. Changes that a dump has brought along
# may bear numbers that this server has not come to yet: they are older than all that has happened here.
FIRST_TO_COME = "pg_snapshot_xmax(pg_current_snapshot())"


def type_names(which: str) -> str:
    """The names of the types of which an attribute is true, as SQL."""
    return ", ".join(f"'{name}'" for name, synced in TYPES.items() if getattr(synced, which))


# Of a change `c` in the stream `p`, which has: `rooms`, of a member the packages that they have and the store, null
# for its staff and for oneself; `only_store`, of a stream of one's own the store that the token is bound to, if it is.
# A post is in that store where it is in its stream, gone or not.
MAY_BE_TOLD = f"""
    (p.rooms is null or c.shown_to is null or c.shown_to && p.rooms)
    and (p.only_store is null or c.type not in ({type_names("where")}) or c.within_id = p.only_store or exists (
        select from sync_changes t where t.stream_id = p.only_store and t.type = 'post' and t.id = c.within_id))
"""
