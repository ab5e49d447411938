"""Writing comments. Each function is part of its caller's transaction.

Whoever may see a published post may comment on it. A comment is changed by its author alone, and deleted by its author,
the post's, and the staff of the post's store, whomever of them its author has blocked.
"""

from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from dues.chosen_ids import id_of_new
from dues.errors import Conflict, Forbidden, NotFound
from dues.events import emit
from dues.postgres import db
from dues.reads.tags import record_change
from dues.social.counters import count
from dues.social.models import Comment
from dues.social.reads import told_comments
from dues.social.visibility import SeenPost, Viewer, is_hidden, look_at_post, require_same_store
from dues.text import Paragraphs

_TAKEN = "select from comments where post_id = %(post_id)s::uuid and id = %(id)s::uuid"

CommentBody = Annotated[Paragraphs, Meta(min_length=1, max_length=5000)]


class NewComment(Struct, forbid_unknown_fields=True):
    body: CommentBody


class CommentChange(Struct, forbid_unknown_fields=True):
    body: CommentBody | UnsetType = UNSET


@dataclass(frozen=True)
class SeenComment:
    """A comment that is locked for this transaction, and what the viewer sees of its post."""

    comment: Comment
    post: SeenPost


def create_comment(viewer: Viewer, post: SeenPost, new: NewComment, chosen_id: UUID | None = None) -> Comment:
    """Raises: Conflict for a post that is not published, and for a chosen id that is taken."""
    require_published(post)
    assert viewer.user_id
    comment_id = id_of_new(chosen_id, "comment", viewer.user_id, _TAKEN, {"post_id": str(post.id)})
    comment = Comment(post_id=post.id, id=comment_id, author_id=viewer.user_id, body=new.body)
    db.session.add(comment)
    count("comments", post.id, 1)
    record_change(post.id)
    if post.store_id:
        emit(post.store_id, "comment.created", told_comments, {"post_id": post.id, "id": comment.id})
    return comment


def get_comment(viewer: Viewer, post_id: UUID, comment_id: UUID) -> SeenComment:
    """Raises: NotFound where the viewer may not see it."""
    post = look_at_post(viewer, post_id)
    require_same_store(viewer, post.store_id)
    comment = db.session.get(Comment, (post_id, comment_id), with_for_update=True)
    if comment is None or (not post.is_moderated_by(viewer) and is_hidden(viewer, comment.author_id)):
        raise NotFound("there is no such comment")
    return SeenComment(comment, post)


def get_own_comment(viewer: Viewer, post_id: UUID, comment_id: UUID) -> SeenComment:
    """Raises: NotFound; Forbidden for somebody else's."""
    seen = get_comment(viewer, post_id, comment_id)
    if seen.comment.author_id != viewer.user_id:
        raise Forbidden("a comment is changed by its author alone")
    return seen


def get_deletable_comment(viewer: Viewer, post_id: UUID, comment_id: UUID) -> SeenComment:
    """Raises: NotFound; Forbidden."""
    seen = get_comment(viewer, post_id, comment_id)
    if seen.comment.author_id != viewer.user_id and not seen.post.is_moderated_by(viewer):
        raise Forbidden("a comment is deleted by its author, the post's author, or the staff of the post's store")
    return seen


def change_comment(seen: SeenComment, change: CommentChange) -> None:
    if change.body is not UNSET and change.body != seen.comment.body:
        seen.comment.body = change.body
        record_change(seen.post.id)


def delete_comment(seen: SeenComment) -> None:
    db.session.delete(seen.comment)
    count("comments", seen.post.id, -1)
    record_change(seen.post.id)


def require_published(post: SeenPost) -> None:
    """Raises: Conflict."""
    if not post.is_published:
        raise Conflict("the post is not published yet", code="not_published")
