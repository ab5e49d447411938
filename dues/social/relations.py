"""Follows and blocks. Each function is part of its caller's transaction; done again, it changes nothing."""

from uuid import UUID

from sqlalchemy import select

from dues.errors import Conflict, NotFound, ValidationFailed
from dues.events import emit
from dues.ids import new_id
from dues.postgres import db, fetch_row
from dues.postgres.constraints import take_turns
from dues.reads.tags import touch
from dues.social.counters import count, require_room_to_follow
from dues.social.reads import follows
from dues.social.visibility import Viewer, require_user
from dues.stores.models import Store

MOST_BLOCKED = 5000

_FOLLOW = """
    insert into follows(follower_id, followed_id, id)
    select %(me)s, %(them)s, %(id)s
    where not exists (select from hidden_users where viewer_id = %(me)s and user_id = %(them)s)
    on conflict do nothing returning id
"""
# Locked, so that it is still there when this is answered.
_FOLLOWS = "select 1 from follows where follower_id = %(me)s and followed_id = %(them)s for key share"
_UNFOLLOW = "delete from follows where follower_id = %(me)s and followed_id = %(them)s returning id"
_BLOCK = """
    insert into blocks(blocker_id, blocked_id, id) values (%(me)s, %(them)s, %(id)s) on conflict do nothing returning id
"""
_UNBLOCK = "delete from blocks where blocker_id = %(me)s and blocked_id = %(them)s returning id"
_BLOCKED = "select 1 from blocks where blocker_id = %(me)s and blocked_id = %(them)s"
_COUNT_BLOCKED = "select count(*) from (select from blocks where blocker_id = %(me)s limit %(most)s) b"


def follow(me: UUID, them: UUID) -> None:
    """Raises: Conflict for oneself; ValidationFailed for somebody who follows as many as one may; NotFound where one of
    the two has just blocked the other."""
    if me == them:
        raise Conflict("nobody follows themselves", code="own_account")
    if _follows(me, them):
        return
    require_room_to_follow(me)
    _take_turns(me, them)
    if not fetch_row(_FOLLOW, {"me": me, "them": them, "id": new_id()}, hot=True):
        if _follows(me, them):
            return
        raise NotFound("there is no such user")
    _is_followed(me, them, 1)
    # The stores of the followed user are told.
    for store_id in db.session.scalars(select(Store.id).where(Store.owner_id == them).order_by(Store.id)):
        emit(store_id, "follow.created", follows, {"follower_id": me, "followed_id": them})


def unfollow(me: UUID, them: UUID) -> None:
    if _follows(me, them) and fetch_row(_UNFOLLOW, {"me": me, "them": them}, hot=True):
        _is_followed(me, them, -1)


def _follows(me: UUID, them: UUID) -> bool:
    return fetch_row(_FOLLOWS, {"me": me, "them": them}, hot=True) is not None


def _is_followed(follower_id: UUID, followed_id: UUID, by: int) -> None:
    count("following", follower_id, by)
    count("followers", followed_id, by)
    touch(f"user:{follower_id}:sees", f"user:{follower_id}:counts", f"user:{followed_id}:counts")


def require_blockable(viewer: Viewer, user_id: UUID) -> None:
    """Raises: NotFound for somebody who is not there, or has blocked the viewer, who has not blocked them."""
    if not (viewer.user_id and _has_blocked(viewer.user_id, user_id)):
        require_user(viewer, user_id)


def block(me: UUID, them: UUID) -> None:
    """Each is invisible to the other from now on, and follows the other no more.

    Raises: Conflict for oneself; ValidationFailed for somebody who blocks as many as one may.
    """
    if me == them:
        raise Conflict("nobody blocks themselves", code="own_account")
    _take_turns(me, them)
    if _has_blocked(me, them) or not fetch_row(_BLOCK, {"me": me, "them": them, "id": new_id()}):
        return
    (blocked,) = fetch_row(_COUNT_BLOCKED, {"me": me, "most": MOST_BLOCKED + 1}) or (0,)
    if blocked > MOST_BLOCKED:
        raise ValidationFailed(f"one can block at most {MOST_BLOCKED} users", code="too_many_blocked")
    unfollow(me, them)
    unfollow(them, me)
    _is_blocked(me, them)


def unblock(me: UUID, them: UUID) -> None:
    if _has_blocked(me, them) and fetch_row(_UNBLOCK, {"me": me, "them": them}):
        _is_blocked(me, them)


def _take_turns(one: UUID, other: UUID) -> None:
    """Of a follow and a block between the same two, the one that comes second sees what the first has done."""
    take_turns("follows or blocks", " ".join(sorted(map(str, (one, other)))))


def _has_blocked(me: UUID, them: UUID) -> bool:
    return fetch_row(_BLOCKED, {"me": me, "them": them}) is not None


def _is_blocked(me: UUID, them: UUID) -> None:
    touch(f"user:{me}:sees", f"user:{them}:sees")
