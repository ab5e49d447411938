"""Likes. Each function is part of its caller's transaction; done again, it changes nothing.

The post is looked at in the statement that adds the like or takes it back: a message to PostgreSQL less. A change is
recorded whether or not there was one.
"""

from uuid import UUID

from dues.ids import new_id
from dues.postgres import fetch_row
from dues.reads.tags import record_change
from dues.social.comments import require_published
from dues.social.counters import count
from dues.social.visibility import LOOK_AT_POST, VIEWER, Viewer, look_values, require_same_store, seen_post

# A like that another request has added or taken back meanwhile is not counted again.
_LIKE = f"""
    with seen as materialized ({LOOK_AT_POST}),
    added as (
        insert into likes(post_id, user_id, id)
        select %(post_id)s::uuid, {VIEWER}, %(id)s::uuid from seen where not is_liked
        on conflict do nothing returning id)
    select seen.*, exists (select from added) from seen
"""
# Locked, so that it is still there when this is answered.
_KEEP = "select 1 from likes where post_id = %(post_id)s and user_id = %(user_id)s for key share"
_LIKE_AGAIN = """
    insert into likes(post_id, user_id, id) values (%(post_id)s, %(user_id)s, %(id)s)
    on conflict do nothing returning id
"""
_UNLIKE = f"""
    with seen as materialized ({LOOK_AT_POST}),
    taken as (
        delete from likes l using seen where l.post_id = %(post_id)s::uuid and l.user_id = {VIEWER} returning l.id)
    select seen.*, exists (select from taken) from seen
"""


def like(viewer: Viewer, post_id: UUID) -> None:
    """Raises: NotFound; Forbidden for a token that is bound to another store; Conflict for a post that is not
    published."""
    assert viewer.user_id
    row = fetch_row(_LIKE, {**look_values(viewer, post_id), "id": str(new_id())}, hot=True)
    post = seen_post(post_id, row)
    require_same_store(viewer, post.store_id)
    require_published(post)
    assert row
    is_added = row[-1]
    values = {"post_id": post_id, "user_id": viewer.user_id}
    if post.is_liked and not fetch_row(_KEEP, values, hot=True):
        is_added = fetch_row(_LIKE_AGAIN, {**values, "id": new_id()}, hot=True)
    if is_added:
        count("likes", post_id, 1)
    record_change(post_id)


def unlike(viewer: Viewer, post_id: UUID) -> None:
    """Raises: NotFound; Forbidden for a token that is bound to another store."""
    row = fetch_row(_UNLIKE, look_values(viewer, post_id), hot=True)
    post = seen_post(post_id, row)
    require_same_store(viewer, post.store_id)
    assert row
    if row[-1]:
        count("likes", post_id, -1)
    record_change(post_id)
