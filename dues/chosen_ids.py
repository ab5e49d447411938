"""Ids of new rows that clients may choose, so that one that is offline can name a row before it is there."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from dues.errors import Conflict
from dues.ids import new_id
from dues.postgres import fetch_row
from dues.postgres.constraints import take_turns

# What once was there is noted for as long as somebody may not have heard that it is gone. Its id is nobody else's
# either: a link to a post that was deleted would show what a stranger says instead. The types are those of the index.
_IS_TAKEN = """
    select exists (select from sync_changes
        where stream_id = %(stream_id)s::uuid and type = %(type)s::text and id = %(id)s::uuid)
        or exists (select from sync_changes
        where id = %(id)s::uuid and gone_at is not null and type in ('address', 'comment', 'package', 'post')
            and type = %(type)s::text)
        or exists ({taken})
"""


def id_of_new(chosen: UUID | None, kind: str, stream_id: UUID, taken: str, values: Mapping[str, Any]) -> UUID:
    """The id that a new row gets: the chosen one, else a new one; part of the caller's transaction().

    kind, stream_id: as what and in whose stream the row is synced (dues/sync). taken: an SQL query that finds a row
    with `%(id)s` already. Raises: Conflict for one that is taken.
    """
    if chosen is None:
        return new_id()
    take_turns(f"{kind}.id", str(chosen))
    row = fetch_row(
        _IS_TAKEN.format(taken=taken),
        {**values, "stream_id": str(stream_id), "type": kind, "id": str(chosen)},
    )
    if row is None or row[0]:
        raise Conflict("this id is taken: choose another", code="id_taken")
    return chosen
