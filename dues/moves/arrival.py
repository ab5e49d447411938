"""The end where a store arrives: departure.py has both.

Nothing of it is seen before all of it is there, is what left, and has clean books. All is one transaction, which holds
a lock of the store's until its end: who asks whether the store has arrived waits for that.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any
from uuid import UUID

import psycopg2
from sqlalchemy.exc import DBAPIError

from dues.billing.audit import audit_books
from dues.cells.signatures import own_name
from dues.failpoints import failpoint
from dues.jobs.notifications import wake_relay
from dues.moves import rows, states, within
from dues.moves.greeting import reasons_against
from dues.moves.removal import touch_store
from dues.moves.tables import PEOPLE, TABLES, Table
from dues.moves.wire import Refused, Wire, refusing
from dues.postgres import after_commit, fetch_row, told, transaction, unit_of_work
from dues.reports.files import file_store
from dues.settings import settings

_LOCK = "select pg_advisory_xact_lock(hashtextextended('store_moves ' || %(store_id)s::uuid, 0))"
_BESIDE = "create temp table {beside} on commit drop as select * from {table} with no data"
# Somebody else has the address of one who comes.
_CLASHES = """
    select m.id::text, u.id::text from moving_users m join users u on u.email_normal = m.email_normal and u.id <> m.id
    where not exists (select from users known where known.id = m.id) order by 1
"""
_ADD_PEOPLE = """
    insert into users({columns}) select {values} from moving_users m
    where not exists (select from users known where known.id = m.id) order by m.id
"""
# A payer has one default, and keeps the one that is here.
_IS_DEFAULT = """
    (m.is_default and not exists (select from payment_methods known where known.user_id = m.user_id
        and known.store_id is null and known.is_default and known.deleted_at is null)) as is_default
"""
_ADD = "insert into {table}({columns}) select {values} from {beside} m on conflict do nothing"
# Those of other stores' files keep a move from writing over them.
_OF_ANOTHER = """
    select exists (select from unnest(%(folders)s::text[]) folder, split_part(folder, '/', 2) first
        where case when folder like 'imports/%%' then first <> %(store_id)s::uuid::text
            else exists (select from reports r where r.id = first::uuid) end)
"""
_MISPLACED = """
    select exists (select from reports where store_id = %(store_id)s and not file_key like 'reports/' || id || '/%%')
        or exists (select from imports, unnest(array[upload_key, file_key]) key
            where store_id = %(store_id)s and not key like 'imports/' || store_id || '/' || id || '/%%')
"""
_STRAY = "select count(*) from {beside} where not coalesce(({rows}), false)"
_SHOWN = 10


def receive(wire: Wire) -> None:
    """Say and do what the other end asks for. Needs an application context.

    Raises: Refused, of which the other end was told; Lost.
    """
    with refusing(wire), _refusing_for_the_database():
        message = wire.hear("hello", "ask")
        store_id, move_id = message["store_id"], message["move_id"]
        if message["word"] == "ask":
            wire.tell("answer", has_arrived=_has_arrived(store_id, move_id))
            return
        with transaction():
            if reasons := reasons_against(message, _cursor(), store_id):
                raise Refused("; ".join(reasons))
        wire.tell("welcome", address=settings().public_url, **within.said_of_cells())
        # Nothing is open here while the other end waits for its jobs.
        _receive_files(wire, store_id)
        wire.hear("rows")
        _take_in(wire, store_id, move_id)


@contextmanager
def _refusing_for_the_database() -> Iterator[None]:
    """What PostgreSQL does not take in is refused, without the rows that it is about. Raises: Refused."""
    try:
        yield
    except (psycopg2.Error, DBAPIError) as error:
        raise Refused(told(error)) from error


def _has_arrived(store_id: UUID, move_id: UUID) -> bool:
    with transaction():
        fetch_row(_LOCK, {"store_id": store_id})
        found = states.find_move(store_id)
    return found is not None and found.id == move_id and found.state == "here"


def _take_in(wire: Wire, store_id: UUID, move_id: UUID) -> None:
    with transaction():
        fetch_row(_LOCK, {"store_id": store_id})
        states.note(store_id, move_id, "arriving")
        cursor = _cursor()
        cursor.execute(rows.UNBOUNDED)
        people = _receive_people(wire, cursor)
        came = [(table, _receive_table(wire, cursor, table)) for table in TABLES]
        arrived = rows.digests(cursor, store_id, leaves=False)
        _require_own(cursor, store_id, {table.name: count for table, count in came if not table.stays}, arrived)
        _compare(wire.hear("digests")["digests"], arrived)
        _audit(cursor, store_id)
        states.note(store_id, move_id, "here")
        touch_store(store_id, people)
        after_commit(wake_relay)
        wire.tell("verified")
        wire.hear("commit")
    failpoint("move.arrived")
    wire.tell("arrived")


def _receive_files(wire: Wire, store_id: UUID) -> None:
    """Where the move comes to nothing, the housekeeping finds that nobody names them. Raises: Refused for files that
    are not this store's."""
    keys = wire.hear("files")["keys"]
    folders = sorted({PurePosixPath(key).parent.as_posix() for key in keys})
    with transaction():
        (is_of_another,) = fetch_row(_OF_ANOTHER, {"folders": folders, "store_id": store_id}) or (True,)
    if is_of_another:
        raise Refused("there are files of another store among those that were sent")
    for folder in folders:
        file_store().delete(folder)
    for key in keys:
        with file_store().create(key) as draft:
            for piece in wire.stream():
                draft.write(piece)


def _receive_people(wire: Wire, cursor: Any) -> list[UUID]:
    """Returns: their ids. Raises: Refused where another account has the address of one who is not known here."""
    columns = _receive_beside(wire, cursor, PEOPLE)
    # In a cell they are copies of the directory's accounts, whose addresses are unique there.
    copies = bool(own_name())
    cursor.execute(_CLASHES)
    if (clashes := cursor.fetchall()) and not copies:
        shown = ", ".join(f"{there} (here {here})" for there, here in clashes[:_SHOWN])
        raise Refused(f"{len(clashes)} people of the store have an account of another id here: {shown}")
    # A password is not taken in either, whatever was sent.
    computed = {**PEOPLE.computed, "copy_of": "m.id" if copies else f"'{UUID(int=0)}'::uuid"}
    values = ", ".join(computed.get(column, column) for column in columns)
    cursor.execute(_ADD_PEOPLE.format(columns=", ".join(columns), values=values))
    cursor.execute("select id from moving_users")
    return [row[0] for row in cursor.fetchall()]


def _receive_table(wire: Wire, cursor: Any, table: Table) -> int:
    """Returns: how many rows came."""
    if not table.stays:
        rows.receive_rows(cursor, table, wire)
        return int(cursor.rowcount)
    columns = _receive_beside(wire, cursor, table)
    values = ", ".join(_IS_DEFAULT if column == "is_default" else column for column in columns)
    add = _ADD.format(table=table.name, beside=_beside(table), columns=", ".join(columns), values=values)
    cursor.execute(add)
    return int(cursor.rowcount)


def _receive_beside(wire: Wire, cursor: Any, table: Table) -> list[str]:
    """Into a table of the transaction's own. Returns: the columns."""
    cursor.execute(_BESIDE.format(table=table.name, beside=_beside(table)))
    return rows.receive_rows(cursor, table, wire, _beside(table))


def _beside(table: Table) -> str:
    return f"moving_{table.name.replace('.', '_')}"


def _require_own(cursor: Any, store_id: UUID, came: Mapping[str, int], arrived: rows.Digests) -> None:
    """All that came is the store's, by what the tables say of it here. Raises: Refused."""
    named = {"store_id": store_id}
    strays = [name for name, (count, *_) in arrived.items() if count != came[name]]
    for table in (PEOPLE, *TABLES):
        if table.stays:
            cursor.execute(_STRAY.format(beside=_beside(table), rows=table.rows), named)
            strays += [table.name] * (cursor.fetchone()[0] > 0)
    cursor.execute(_MISPLACED, named)
    strays += ["files"] * cursor.fetchone()[0]
    if strays:
        raise Refused(f"there are rows among those that came which are not of this store: {', '.join(strays)}")


def _compare(left: rows.Digests, arrived: rows.Digests) -> None:
    """Raises: Refused."""
    if differ := sorted(name for name in {*left, *arrived} if left.get(name) != arrived.get(name)):
        counts = ((name, left.get(name, (0,))[0], arrived.get(name, (0,))[0]) for name in differ)
        shown = ", ".join(f"{name} ({there} rows, here {here})" for name, there, here in counts)
        raise Refused(f"what has arrived is not what left: {shown}")


def _audit(cursor: Any, store_id: UUID) -> None:
    """Audit the books of the store alone: views of its rows stand before the tables meanwhile. Raises: Refused."""
    cursor.execute("set constraints all immediate")
    # Of so many new rows nobody has told the planner yet, and a check takes hours that is planned for none.
    cursor.execute(f"analyze {', '.join(sorted({table.name for table in TABLES}))}")
    own = [table for table in TABLES if table.rows == Table.rows and "." not in table.name and not table.stays]
    for table in own:
        where = cursor.mogrify(table.rows, {"store_id": store_id}).decode()
        cursor.execute(f"create temp view {table.name} as select * from public.{table.name} where {where}")
    differences = audit_books(cursor)
    for table in own:
        cursor.execute(f"drop view pg_temp.{table.name}")
    if differences:
        raise Refused(f"the books of the store are not clean: {'; '.join(differences[:_SHOWN])}")


def _cursor() -> Any:
    return unit_of_work().connection().connection.cursor()
