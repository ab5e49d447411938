"""Which rows the housekeeping deletes one by one: of a table that is not partitioned all that have expired; of one that
is, those that no month takes along: in months that should be empty and are still in use, or beyond all months.
"""

from datetime import timedelta
from typing import Any

from dues.partitions.catalog import ids_of
from dues.partitions.months import NO_ID_ABOVE, NO_ID_BELOW, floor_id
from dues.postgres import fetch_row

# What may be deleted one by one: `{key}` is the column of the ids. Of partitions that have no such rows none is read.
ONE_BY_ONE = "({key} < %(past)s::uuid or {key} >= %(beyond)s::uuid)"
# A month has a day to be emptied before its rows are deleted.
_GRACE = timedelta(days=1)

_SPAN = """
    select relkind = 'p', now() - %(kept)s, array(
        select pg_get_expr(p.relpartbound, p.oid) from pg_inherits i join pg_class p on p.oid = i.inhrelid
        where i.inhparent = c.oid)
    from pg_class c where c.oid = to_regclass(%(table)s)
"""


def one_by_one(table: str, kept: timedelta) -> dict[str, Any]:
    """The values of ONE_BY_ONE, for rows that are kept for `kept`."""
    is_partitioned, since, bounds = fetch_row(_SPAN, {"table": table, "kept": kept + _GRACE}) or (False, None, ())
    if not is_partitioned:
        return {"past": NO_ID_ABOVE, "beyond": NO_ID_ABOVE}
    uppers = [upper for _, upper in map(ids_of, bounds) if upper]
    past = [upper for upper in uppers if upper <= floor_id(since)]
    return {"past": max(past, default=NO_ID_BELOW), "beyond": max(uppers, default=NO_ID_ABOVE)}
