"""The end where a store leaves.

    here                                      there
    hello: who it is, what it has       ->    everything that speaks against it
    jobs are held, running ones end
    writes are refused
    files, people, rows, digests        ->    all rows in one transaction, compared, their books audited
    `switching` is committed: nothing
    of the store is shown here any more
    commit                              ->    commit
    the rows are deleted                <-    arrived

What fails before `commit` is given up, and the store goes on here. What fails after it is in doubt until the other end
is asked, under a lock that the transaction there holds: `move()` does so by itself, and when it is called again.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any
from uuid import UUID, uuid4

from dues.failpoints import failpoint
from dues.moves import rows, states, within
from dues.moves.fence import Fence, StillRunning
from dues.moves.greeting import greeting
from dues.moves.removal import remove_store
from dues.moves.tables import PEOPLE, TABLES
from dues.moves.wire import Lost, Refused, Wire, hearing_why
from dues.postgres import connect
from dues.postgres.changing import changing
from dues.postgres.patience import Tell
from dues.reports.files import file_store
from dues.settings import settings

_FILES = """
    select key from (
        select file_key as key from reports where store_id = %(store_id)s
        union all select unnest(array[upload_key, file_key]) from imports where store_id = %(store_id)s) keys
    where key is not null order by key
"""
_SHOWN = 5

# Reaches the other end for the length of a `with` block.
Reach = Callable[[], AbstractContextManager[Wire]]


class InDoubt(Exception):
    """Nobody knows whether the store has arrived; the message says what to do."""


def move(store_id: UUID, reach: Reach, tell: Tell, *, longest_wait_s: float) -> str:
    """Move a store to the Dues that `reach` leads to, which runs `receive()`. Returns: that one's URL.

    A move that was broken off is finished, or begun anew. Needs an application context.
    Raises: Refused where the store stays here, as it was; InDoubt; Busy; psycopg2.Error.
    """
    with changing(settings(), tell) as session:
        fence, earlier = Fence(session, store_id), states.find_move(store_id)
        if earlier and earlier.state == "gone":
            fence.lift(free_jobs=False)
            raise Refused(f"the store has moved to {earlier.address} already")
        if earlier and earlier.state == "switching":
            if has_arrived(reach, store_id, earlier.id):
                return _finish(fence, store_id, earlier, tell)
            tell("the store has not arrived: the move is begun anew")
        if earlier and earlier.state != "here":
            _give_up(fence, store_id)
        return _move(fence, store_id, reach, tell, longest_wait_s)


def has_arrived(reach: Reach, store_id: UUID, move_id: UUID) -> bool:
    """Ask the other end, once no transaction of that move is open there any more. Raises: InDoubt."""
    try:
        with reach() as wire:
            wire.tell("ask", store_id=str(store_id), move_id=str(move_id))
            return bool(wire.hear("answer")["has_arrived"])
    except (Lost, Refused) as error:
        raise InDoubt(
            f"the other end was told to commit, and cannot be asked whether it has ({error}). Until it is, the store is"
            " neither here nor there: run this again with a command that reaches it"
        ) from error


def _move(fence: Fence, store_id: UUID, reach: Reach, tell: Tell, longest_wait_s: float) -> str:
    move_id, is_switched = uuid4(), False
    try:
        with reach() as wire:
            address, cell = _greet(wire, store_id, move_id)
            with _giving_up(fence, store_id, move_id), hearing_why(wire):
                _copy(wire, fence, store_id, move_id, tell, longest_wait_s)
                failpoint("move.before_switch")
                states.switch(store_id, move_id, address, cell)
            is_switched = True
            failpoint("move.after_switch")
            wire.tell("commit")
            failpoint("move.after_commit")
            wire.hear("arrived")
    except (Lost, Refused):
        if not is_switched:
            raise
        tell("the other end was lost as it committed: asking it anew")
        if not has_arrived(reach, store_id, move_id):
            _give_up(fence, store_id)
            raise Refused("the other end could not commit") from None
    return _finish(fence, store_id, states.Move(move_id, "switching", address, cell), tell)


def _copy(wire: Wire, fence: Fence, store_id: UUID, move_id: UUID, tell: Tell, longest_wait_s: float) -> None:
    """Return when the other end has all of the store, and waits for the word to commit. Raises: Refused; Lost."""
    states.begin(store_id, move_id, "holding")
    fence.hold_jobs()
    fence.wait_for_jobs(longest_wait_s, tell)
    states.begin(store_id, move_id, "copying")
    fence.refuse_writes()
    tell("the store takes no writes: copying")
    _send_all(wire, store_id, tell)
    wire.hear("verified")
    tell("all has arrived as it left, and its books are clean")


def _greet(wire: Wire, store_id: UUID, move_id: UUID) -> tuple[str, str]:
    """Returns: the URL of the Dues at the other end, and which of its cells that is. Raises: Refused."""
    with _snapshot() as cursor:
        said = greeting(cursor, store_id)
    try:
        wire.tell("hello", store_id=str(store_id), move_id=str(move_id), **said)
        welcome = wire.hear("welcome")
        return str(welcome["address"]), within.cell_at(welcome, store_id)
    except Lost as lost:
        raise Refused(str(lost)) from lost


def _send_all(wire: Wire, store_id: UUID, tell: Tell) -> None:
    with _snapshot() as cursor:
        cursor.execute(_FILES, {"store_id": store_id})
        keys = [key for (key,) in cursor.fetchall()]
        sizes = {key: file_store().size(key) for key in keys}
        if lost := [key for key, size in sizes.items() if size is None]:
            tell(f"{len(lost)} files are not there, and do not go along: {', '.join(lost[:_SHOWN])}")
        found = {key: size for key, size in sizes.items() if size is not None}
        wire.tell("files", keys=list(found))
        for key, size in found.items():
            _send_file(wire, key, size)
        wire.tell("rows")
        for table in (PEOPLE, *TABLES):
            rows.send_rows(cursor, table, store_id, wire)
        wire.tell("digests", digests=rows.digests(cursor, store_id, leaves=True))


def _send_file(wire: Wire, key: str, size: int) -> None:
    with closing(file_store().read(key, 0, size)) as chunks:
        for chunk in chunks:
            wire.write(chunk)
    wire.end_stream()


@contextmanager
def _snapshot() -> Iterator[Any]:
    """A cursor on the database as it is now, until the block's end."""
    with closing(connect(settings(), "dues move")) as connection:
        connection.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
        with connection.cursor() as cursor:
            cursor.execute(rows.UNBOUNDED)
            yield cursor


@contextmanager
def _giving_up(fence: Fence, store_id: UUID, move_id: UUID) -> Iterator[None]:
    """Whatever fails in the block, the store goes on here as before, unless another process has begun to move it since
    this one was taken for dead: the fence is that one's now. Raises: Refused."""
    try:
        yield
    except BaseException as error:
        found = states.find_move(store_id)
        if found is None or found.id == move_id:
            _give_up(fence, store_id)
        if isinstance(error, Refused | Lost | StillRunning):
            raise Refused(str(error)) from error
        raise


def _give_up(fence: Fence, store_id: UUID) -> None:
    fence.lift(free_jobs=True)
    states.forget(store_id)


def _finish(fence: Fence, store_id: UUID, done: states.Move, tell: Tell) -> str:
    """Raises: InDoubt where the directory of cells cannot be told."""
    if stays_within := within.is_within(done.address):
        failpoint("move.before_told")
        try:
            within.note_arrival(store_id, done.cell)
        except within.NotTold as error:
            raise InDoubt(
                f"the store has arrived, and the directory cannot be told ({error}). Until it is, requests for the"
                " store are answered 503: run this again"
            ) from error
    tell("the store has arrived: deleting its rows here")
    failpoint("move.before_removal")
    remove_store(store_id, done.id, done.address, keeps_tokens=stays_within)
    fence.lift(free_jobs=False)
    return f"{done.address} ({done.cell or 'the directory'})" if stays_within else done.address
