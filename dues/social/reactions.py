"""Likes. Each function is part of its caller's transaction; done again, it changes nothing."""

from uuid import UUID

from dues.ids import new_id
from dues.postgres import fetch_row
from dues.reads.tags import record_change
from dues.social.comments import require_published
from dues.social.counters import count
from dues.social.visibility import SeenPost

_LIKE = """
    insert into likes(post_id, user_id, id) values (%(post_id)s, %(user_id)s, %(id)s)
    on conflict do nothing returning id
"""
# Locked, so that it is still there when this is answered.
_KEEP = "select 1 from likes where post_id = %(post_id)s and user_id = %(user_id)s for key share"
_UNLIKE = "delete from likes where post_id = %(post_id)s and user_id = %(user_id)s returning id"


def like(post: SeenPost, user_id: UUID) -> None:
    """Raises: Conflict for a post that is not published."""
    require_published(post)
    if post.is_liked and fetch_row(_KEEP, {"post_id": post.id, "user_id": user_id}):
        return
    record_change(post.id)
    # A like that another request has added meanwhile is not counted again.
    if fetch_row(_LIKE, {"post_id": post.id, "user_id": user_id, "id": new_id()}, hot=True):
        count("likes", post.id, 1)


def unlike(post: SeenPost, user_id: UUID) -> None:
    if not post.is_liked:
        return
    record_change(post.id)
    # A like that another request has taken back meanwhile is not counted again.
    if fetch_row(_UNLIKE, {"post_id": post.id, "user_id": user_id}, hot=True):
        count("likes", post.id, -1)
