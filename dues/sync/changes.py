"""The changes that a client has missed: the newest state of each row that has changed since its last pull.

A pull takes one statement that finds the changes, and one more for each type that has rows to show. It goes through the
changes page by page, in the order in which their transactions began to write. Each row is shown as it is at that time,
so it may be shown again, but never in an older state.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, NamedTuple
from uuid import UUID

import ujson
from msgspec.structs import replace

from dues.errors import Gone, Unavailable, Unsupported
from dues.postgres import array_text, fetch_row, is_spread
from dues.sync.cursor import Cursor, Place, xmin
from dues.sync.streams import FIRST_TO_COME, MAY_BE_SHOWN, type_names
from dues.sync.types import TYPES

KEPT_DAYS = 90
MOST_CHANGES = 500
# How often a pull starts again because the facts that decide what the caller may see have changed.
_MOST_LOOKS = 5
# Once a page exceeds this many bytes, the rest of its rows come with the next page.
_MOST_BYTES = 1024 * 1024
_FIRST_ID, _LAST_ID = UUID(int=0), UUID(int=(1 << 128) - 1)


# The present snapshot; the identity of the database, its timeline and the changes table (which is a new table after a
# dump was loaded); and the time.
_DATABASE_STATE = """
select case when not pg_is_in_recovery() then pg_current_snapshot()::text end,
    (select system_identifier from pg_control_system())::text || '.'
        || case when not pg_is_in_recovery() then left(pg_walfile_name(pg_current_wal_lsn()), 8) end
        || '.' || 'sync_changes'::regclass::oid::text,
    extract(epoch from clock_timestamp())::bigint
"""
# Up to which transaction to look: clients that begin also get changes that came with a dump (streams.py); for others
# these are not new.
_LAST_XID = "'18446744073709551615'::xid8"
# The first changes after the cursor, of each type and stream that the caller may read; and the facts that decide what
# the caller may see, at the same moment.
_LOOK = f"""
with staff as materialized (
    select store_id from store_staff
    where user_id = %(user_id)s::uuid and (%(only_store)s::uuid is null or store_id = %(only_store)s::uuid)),
membership as materialized (
    select store_id, package_id from memberships
    where user_id = %(user_id)s::uuid and (%(only_store)s::uuid is null or store_id = %(only_store)s::uuid)),
wanted as (
    select w.*, case when w.is_fresh then {_LAST_XID} else {FIRST_TO_COME} end as until
    from unnest(%(types)s::text[], %(fresh)s::bool[], %(xids)s::xid8[], %(ids)s::uuid[])
        as w(type, is_fresh, xid, id)),
pair as (
    select %(user_id)s::uuid as stream_id, null::uuid[] as rooms, %(only_store)s::uuid as only_store, w.*
    from wanted w where w.type in ({type_names("is_own")})
    union all
    select s.store_id, null, null, w.* from staff s, wanted w where w.type in ({type_names("of_staff")})
    union all
    select m.store_id, m.rooms, null, w.*
    from (select store_id, array_agg(package_id) || store_id as rooms from membership group by store_id) m, wanted w
    where w.type in ({type_names("of_members")}) and m.store_id not in (select store_id from staff)),
found as (
    select distinct on (c.xid, c.type collate "C", c.id) c.* from pair p cross join lateral (
        select c.xid, c.type, c.id, c.within_id, c.version, c.op_id from sync_changes c
        where c.stream_id = p.stream_id and c.type = p.type and (c.xid, c.id) > (p.xid, p.id) and c.xid < p.until
            and (p.is_fresh and c.gone_at is null
                or not p.is_fresh and not pg_visible_in_snapshot(c.xid, %(base)s::pg_snapshot))
            and (%(target)s::pg_snapshot is null or pg_visible_in_snapshot(c.xid, %(target)s::pg_snapshot)
                or c.xid >= {FIRST_TO_COME})
            and {MAY_BE_SHOWN}
        order by c.xid, c.id limit %(most)s::bigint) c
    order by c.xid, c.type collate "C", c.id limit %(most)s::bigint)
{_DATABASE_STATE},
    (select json_agg(s.store_id order by s.store_id) from staff s)::text,
    (select json_agg(json_build_array(m.store_id, m.package_id) order by m.store_id, m.package_id)
        from membership m)::text,
    (select md5(string_agg(h.user_id::text, ' ' order by h.user_id)) from hidden_users h
        where h.viewer_id = %(user_id)s::uuid),
    (select json_agg(json_build_array(f.xid::text, f.type, f.id, f.within_id, f.version, f.op_id)
        order by f.xid, f.type collate "C", f.id) from found f)::text
"""


@dataclass(frozen=True)
class Reader:
    """The caller. `only_store` is the store that their token is restricted to, if any."""

    user_id: UUID
    only_store: UUID | None


class Change(NamedTuple):
    """A change as it was found in `sync_changes`."""

    xid: int
    type: str
    id: str
    within_id: str
    version: int
    op_id: str | None

    @property
    def place(self) -> Place:
        return Place(self.xid, self.type, UUID(self.id))


@dataclass(frozen=True)
class Look:
    """The result of one query for changes. `revs`: for each type, a digest of the facts that decide what may be seen of
    it."""

    snapshot: str
    database: str
    moment: int
    revs: Mapping[str, str]
    changes: Sequence[Change]


@dataclass
class Page:
    """`changes` are JSON objects. `cursor` is the client's position after applying them. For the types in `reset`, the
    client must first forget everything it has."""

    changes: list[bytes] = field(default_factory=list)
    cursor: Cursor = field(default_factory=Cursor)
    has_more: bool = False
    reset: list[str] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        return not (self.changes or self.reset or self.has_more)


def pull(reader: Reader, types: Sequence[str], cursor: Cursor | None, most: int) -> Page:
    """The next page after the cursor, or the first page if it is None: at most `most` changes of `types`. Must not be
    called within a transaction().

    Raises: Gone for a cursor that is too old or belongs to another database; Unavailable; Unsupported.
    """
    _require_one_server()
    at, reset = cursor or Cursor(), set[str]()
    for _ in range(_MOST_LOOKS):
        # The very first query only finds the facts that decide what may be seen.
        look = _look(reader, types, at, most if at.revs else 0)
        _require_known(at, look)
        if changed := {name for name in types if at.revs.get(name) != look.revs[name]}:
            # Start again from the beginning, since some pages were based on the previous facts.
            reset |= changed | ({*at.fresh} & {*types})
            at = _restarted_cursor(at, look, reset)
            continue
        return _page(reader, look, at, reset, most)
    raise Unavailable("what you may see keeps changing: ask again")


def require_known(cursor: Cursor) -> None:
    """Raises: Gone for a cursor that is too old or belongs to another database; Unavailable."""
    _require_one_server()
    row = fetch_row(_DATABASE_STATE, {})
    assert row
    _require_known(cursor, Look(*_database_state(row), {}, ()))


def _require_one_server() -> None:
    """Raises: Unsupported where changes have no order in common, since several servers count transactions."""
    if is_spread():
        raise Unsupported("the database is spread over several servers, whose changes have no order in common")


def _database_state(row: Sequence[Any]) -> tuple[str, str, int]:
    """The snapshot, the database's identity, and the time. Raises: Unavailable on a standby."""
    snapshot, database, moment = row
    if snapshot is None:
        # A standby's snapshots cannot be compared with the primary's.
        raise Unavailable("the database takes no writes at present")
    return snapshot, database, moment


def _look(reader: Reader, types: Sequence[str], at: Cursor, room: int) -> Look:
    places = [_start(name, at) for name in types]
    values = {
        "user_id": str(reader.user_id),
        "only_store": reader.only_store and str(reader.only_store),
        "types": array_text(types),
        "fresh": array_text("t" if name in at.fresh else "f" for name in types),
        "xids": array_text(str(place.xid) for place in places),
        "ids": array_text(str(place.id) for place in places),
        "base": at.base,
        "target": at.target or None,
        "most": room + 1,
    }
    row = fetch_row(_LOOK, values, hot=True)
    assert row
    *state, staff, memberships, hidden, found = row
    changes = [Change(int(xid), *rest) for xid, *rest in ujson.loads(found or "[]")]
    facts = {
        "only_store": values["only_store"],
        "staff": staff,
        "memberships": memberships,
        "stores": sorted({store_id for store_id, _ in ujson.loads(memberships or "[]")}),
        "hidden": hidden,
    }
    return Look(*_database_state(state), {name: _digest(name, facts) for name in types}, changes)


def _start(name: str, at: Cursor) -> Place:
    """The position after which to look for changes of a type."""
    first = Place(0 if name in at.fresh else xmin(at.base), name, _FIRST_ID)
    if at.after is None or at.after.xid < first.xid:
        return first
    if name == at.after.type:
        return at.after
    return Place(at.after.xid, name, _FIRST_ID if name > at.after.type else _LAST_ID)


def _digest(name: str, facts: Mapping[str, Any]) -> str:
    text = ujson.dumps([facts[fact] for fact in TYPES[name].facts])
    return sha256(text.encode()).hexdigest()[:12]


def _require_known(at: Cursor, look: Look) -> None:
    """Raises: Gone."""
    if not at.since:
        return
    is_known = at.database == look.database and xmin(at.base) <= xmin(look.snapshot)
    if not is_known or at.since < look.moment - KEPT_DAYS * 86_400:
        raise Gone(
            f"this cursor is older than {KEPT_DAYS} days, or of a database that was put back since: begin anew without"
            " one, and keep the operations that were not sent",
            code="cursor_expired",
        )


def _restarted_cursor(at: Cursor, look: Look, fresh: set[str]) -> Cursor:
    return replace(
        at,
        database=look.database,
        since=at.since or look.moment,
        revs=dict(look.revs),
        fresh=tuple(sorted(fresh)),
        target="",
        begun_at=0,
        after=None,
    )


def _next_page_cursor(at: Cursor, look: Look, last: Change) -> Cursor:
    target, begun_at = (at.target, at.begun_at) if at.target else (look.snapshot, look.moment)
    return replace(at, revs=dict(look.revs), target=target, begun_at=begun_at, after=last.place)


def _final_cursor(at: Cursor, look: Look) -> Cursor:
    return Cursor(look.database, at.begun_at or look.moment, at.target or look.snapshot, dict(look.revs))


def _page(reader: Reader, look: Look, at: Cursor, reset: set[str], most: int) -> Page:
    page = Page(reset=sorted(reset))
    found, size = look.changes[:most], 0
    for place, change in enumerate(_shown(reader, found, reset | {*at.fresh})):
        page.changes += [change] if change else []
        size += len(change)
        if size > _MOST_BYTES:
            found = found[: place + 1]
            break
    if len(found) < len(look.changes):
        page.cursor, page.has_more = _next_page_cursor(at, look, found[-1]), True
    else:
        # More may have been committed since the first of several pages.
        page.cursor, page.has_more = _final_cursor(at, look), bool(at.target)
    return page


def _shown(reader: Reader, found: Sequence[Change], fresh: set[str]) -> Iterator[bytes]:
    """Each change as JSON; empty if the row is gone and the client never had it."""
    rows: dict[tuple[str, str], tuple[int, str]] = {}
    for name in {change.type for change in found}:
        rows |= _read(reader, name, [change for change in found if change.type == name])
    for change in found:
        row = rows.get((change.type, change.id))
        if row is None and change.type in fresh:
            yield b""
            continue
        version, data = row or (change.version, "null")
        by_op = f'"{change.op_id}"' if change.op_id else "null"
        op = "put" if row else "delete"
        yield (
            f'{{"type":"{change.type}","id":"{change.id}","op":"{op}","version":{version},'
            f'"data":{data},"by_op":{by_op}}}'
        ).encode()


def _read(reader: Reader, name: str, found: Sequence[Change]) -> dict[tuple[str, str], tuple[int, str]]:
    """The rows that the reader may see: version and JSON, by type and id."""
    values = {
        "viewer": str(reader.user_id),
        "only_store": reader.only_store and str(reader.only_store),
        "ids": array_text(change.id for change in found),
        "within": array_text(change.within_id for change in found),
    }
    row = fetch_row(TYPES[name].statement, values, hot=True)
    assert row
    recorded = {change.id: change.version for change in found}
    return {
        (name, id_): (recorded[id_] if version is None else version, item)
        for id_, version, item in zip(*(column or () for column in row), strict=True)
    }
