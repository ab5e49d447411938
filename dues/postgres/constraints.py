"""A constraint of the database that a write breaks, as the refusal that the client is told.

Asking first whether a value is free proves nothing: another writer may take it before the commit. The constraint
decides, and a second writer waits until the first has committed or not.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import IntegrityError

from dues.errors import Problem
from dues.postgres.orm import db


@contextmanager
def on_violation(constraint: str, problem: Problem) -> Iterator[None]:
    """Write out what the block has changed, and raise `problem` where that breaks `constraint`.

    The unit of work cannot go on after that; it is for its caller to begin another.
    """
    try:
        yield
        db.session.flush()
    except IntegrityError as error:
        if getattr(getattr(error.orig, "diag", None), "constraint_name", None) == constraint:
            raise problem from None
        raise
