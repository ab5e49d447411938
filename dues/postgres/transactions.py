"""`transaction()`, the only place that commits, and what is done around each commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

from sqlalchemy.orm import Session

from dues.postgres.engine import db
from dues.postgres.sqlstate import is_repeatable
from dues.postgres.unit_of_work import UnitOfWork, present_work

T = TypeVar("T")


@contextmanager
def transaction() -> Iterator[Session]:
    """One unit of work: all of the block is committed at its end, or none of it.

    The only place that commits. Blocks do not nest: a function that is part of a larger unit of work takes the
    one that its caller opened (`unit_of_work()` fails when there is none).
    """
    if present_work.get() is not None:
        raise RuntimeError("transaction() inside transaction(): the outer block is the unit of work")
    session = db.session() if db.session.registry.has() else None
    if session:
        session.rollback()
    work = UnitOfWork(db.engine, session)
    token = present_work.set(work)
    try:
        # What stands for the present context's session, and makes one when it is first used.
        yield cast(Session, db.session)
        # What was left for later goes out with the first statement of a hook.
        work.flush_session()
        for hook in (*_before_commit, *_next_to_last_before_commit, *_last_before_commit):
            hook(work)
        work.commit()
    except BaseException:
        work.rollback()
        raise
    finally:
        try:
            present_work.reset(token)
        finally:
            work.release()
    for callback in work.after_commit:
        callback()


def unit_of_work() -> UnitOfWork:
    """The unit of work that the caller is in. Raises: RuntimeError outside `transaction()`."""
    work = present_work.get()
    if work is None:
        raise RuntimeError("a write needs a transaction() around it")
    return work


def in_transaction() -> bool:
    """Whether the caller is inside `transaction()`."""
    return present_work.get() is not None


def after_commit(callback: Callable[[], None]) -> None:
    """Call `callback` once the present unit of work is committed; it must neither fail nor matter for correctness,
    because a process may die before it runs."""
    unit_of_work().after_commit.append(callback)


def repeated(work: Callable[[], T]) -> T:
    """What a unit of work returns, which is done once more where PostgreSQL ended it for what others did meanwhile
    (a deadlock, a row that was deleted). Raises: what `work` does, in the end."""
    try:
        return work()
    except Exception as error:
        if not is_repeatable(error):
            raise
    return work()


Hook = Callable[[UnitOfWork], None]

_before_commit: list[Hook] = []
_next_to_last_before_commit: list[Hook] = []
_last_before_commit: list[Hook] = []


def before_commit(hook: Hook) -> Hook:
    """Have `hook(work)` run last thing before every commit; what it raises rolls back."""
    _before_commit.append(hook)
    return hook


def next_to_last_before_commit(hook: Hook) -> Hook:
    """The same, after all of those: for a hook that locks what others wait for."""
    _next_to_last_before_commit.append(hook)
    return hook


def last_before_commit(hook: Hook) -> Hook:
    """The same, after all others: for a hook that locks what others wait for, and shows what they have written."""
    _last_before_commit.append(hook)
    return hook
