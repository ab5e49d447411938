"""Which of the waiting clients have new changes: one statement for all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from dues.postgres import array_text, fetch_row
from dues.sync.streams import FIRST_TO_COME, MAY_BE_SHOWN, type_names


@dataclass(frozen=True)
class Watch:
    """What a client waits for: changes of `types` that the snapshot `base` does not include."""

    user_id: UUID
    only_store: UUID | None
    types: tuple[str, ...]
    base: str


_IN_ONLY_STORE = "(w.only_store is null or s.store_id = w.only_store)"
_MOVED = f"""
    select array_agg(w.place)
    from unnest(%(users)s::uuid[], %(only_stores)s::uuid[], %(types)s::text[], %(bases)s::pg_snapshot[])
        with ordinality as w(user_id, only_store, types, base, place)
    where exists (
        select from (
            select w.user_id as stream_id, t.type, null::uuid[] as rooms, w.only_store
            from string_to_table(w.types, ' ') as t(type)
            where t.type in ({type_names("is_own")})
            union all
            select s.store_id, t.type, null, null from store_staff s, string_to_table(w.types, ' ') as t(type)
            where s.user_id = w.user_id and {_IN_ONLY_STORE} and t.type in ({type_names("of_staff")})
            union all
            select s.store_id, t.type, array[s.package_id, s.store_id], null
            from memberships s, string_to_table(w.types, ' ') as t(type)
            where s.user_id = w.user_id and {_IN_ONLY_STORE} and t.type in ({type_names("of_members")})) p
        cross join lateral (
            select from sync_changes c
            where c.stream_id = p.stream_id and c.type = p.type and c.xid >= pg_snapshot_xmin(w.base)
                and c.xid < {FIRST_TO_COME} and not pg_visible_in_snapshot(c.xid, w.base)
                and {MAY_BE_SHOWN}
            limit 1) c)
"""


def find_moved(watches: Sequence[Watch]) -> set[int]:
    """The indexes of the watches for which a pull would return something."""
    values = {
        "users": array_text(str(watch.user_id) for watch in watches),
        "only_stores": array_text(str(watch.only_store or "NULL") for watch in watches),
        "types": array_text('"' + " ".join(watch.types) + '"' for watch in watches),
        "bases": array_text(f'"{watch.base}"' for watch in watches),
    }
    row = fetch_row(_MOVED, values, hot=True)
    return {place - 1 for place in (row and row[0]) or ()}
