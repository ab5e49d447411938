"""Numbers of likes, comments and followers, kept in rows of their own.

They are changed last in the unit of work, in one message with its COMMIT, so that the row of a popular post or user is
locked only for as long as a commit takes; and always in the same order, so that two units of work cannot deadlock.
"""

from typing import Literal
from uuid import UUID

from psycopg2.errors import CheckViolation

from dues.errors import ValidationFailed
from dues.postgres import fetch_row, last_before_commit, run_later, unit_of_work
from dues.postgres.unit_of_work import UnitOfWork

Counted = Literal["likes", "comments", "followers", "following"]

# How many users one may follow; the check of `follow_stats` says the same.
MOST_FOLLOWED = 5000

_OF_A_POST = "update post_stats set {name} = {name} + %(by)s where post_id = %(id)s"
_OF_A_USER = "update follow_stats set {name} = {name} + %(by)s where user_id = %(id)s"
# A user has a row from their first follow on.
_OF_ANY_USER = """
    insert into follow_stats as s (user_id, {name}) values (%(id)s, %(by)s)
    on conflict (user_id) do update set {name} = s.{name} + excluded.{name} returning {name}
"""
_FOLLOWING = "select following from follow_stats where user_id = %(id)s"


def count(name: Counted, id_: UUID, by: int) -> None:
    """So many more likes or comments of a post, followers or followed of a user."""
    unit_of_work().counts[name, id_] += by


def require_room_to_follow(user_id: UUID) -> None:
    """Raises: ValidationFailed for somebody who follows as many as one may."""
    row = fetch_row(_FOLLOWING, {"id": user_id}, hot=True)
    if row and row[0] >= MOST_FOLLOWED:
        raise _too_many()


@last_before_commit
def _write(work: UnitOfWork) -> None:
    for (name, id_), by in sorted(work.counts.items()):
        values = {"id": id_, "by": by}
        if not by:
            continue
        if name == "following" and by > 0:
            _add_followed(values)
        elif name in ("likes", "comments"):
            run_later(_OF_A_POST.format(name=name), values)
        else:
            run_later((_OF_ANY_USER if by > 0 else _OF_A_USER).format(name=name), values)


def _add_followed(values: dict[str, object]) -> None:
    try:
        fetch_row(_OF_ANY_USER.format(name="following"), values, hot=True)
    except CheckViolation as error:
        # Other follows of this user, at the same time, took the last places.
        raise _too_many() from error


def _too_many() -> ValidationFailed:
    return ValidationFailed(f"one can follow at most {MOST_FOLLOWED} users", code="too_many_followed")
