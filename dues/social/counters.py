"""Numbers of likes, comments and followers, kept in rows of their own.

They are changed last in the unit of work, in one message with its COMMIT, so that the row of a popular user is locked
only for as long as a commit takes, and nobody waits for that of a popular post; and always in the same order, so that
two units of work cannot deadlock.
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

# A unit of work whose post's row is locked by another, which is being committed, does not wait for that: it counts in
# one of these many other rows of the post. A number is the sum of them all. Where the unit of work has deleted the post
# itself, there is nothing left to count.
_SHARDS = 16
_OF_A_POST = f"""
    with free as (select post_id from post_stats where post_id = %(id)s for no key update skip locked),
    counted as (update post_stats s set {{name}} = s.{{name}} + %(by)s from free where s.post_id = free.post_id)
    insert into post_stat_shards as s (post_id, shard, {{name}})
    select id, floor(random() * {_SHARDS})::smallint, %(by)s from posts
    where id = %(id)s and not exists (select from free)
    on conflict (post_id, shard) do update set {{name}} = s.{{name}} + excluded.{{name}}
"""
_OF_A_USER = "update follow_stats set {name} = {name} + %(by)s where user_id = %(id)s"
# A user has a row from their first follow on.
_OF_ANY_USER = """
    insert into follow_stats as s (user_id, {name}) values (%(id)s, %(by)s)
    on conflict (user_id) do update set {name} = s.{name} + excluded.{name} returning {name}
"""
_FOLLOWING = "select following from follow_stats where user_id = %(id)s"


def number_of(name: Literal["likes", "comments"], post_id: str) -> str:
    """An SQL expression: the number of a post that another expression names."""
    return (
        f"(select s.{name} from post_stats s where s.post_id = {post_id})"
        f" + coalesce((select sum(s.{name}) from post_stat_shards s where s.post_id = {post_id}), 0)::bigint"
    )


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
