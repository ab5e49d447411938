"""Comments on posts: written by whoever sees the post, changed by their author."""

from uuid import UUID

from api.auth import PUBLIC
from api.reply import Reply, no_content
from api.routing import Call, Routes
from dues.reads import ReadPlan
from dues.reads.resource import Scope
from dues.social import comments as service
from dues.social.comments import CommentChange, NewComment, SeenComment
from dues.social.reads import comments
from dues.social.visibility import SeenPost, look_at_post, require_same_store

routes = Routes("comments")
LIST, ONE = "/v1/posts/{post_id}/comments", "/v1/posts/{post_id}/comments/{comment_id}"


def _scope(call: Call) -> Scope:
    return {**call.viewer.scope, "post_id": call.ids["post_id"]}


def _post(call: Call) -> SeenPost:
    post = look_at_post(call.viewer, call.ids["post_id"])
    require_same_store(call.viewer, post.store_id)
    return post


def _own(call: Call) -> SeenComment:
    return service.get_own_comment(call.viewer, call.ids["post_id"], call.ids["comment_id"])


def _deletable(call: Call) -> SeenComment:
    return service.get_deletable_comment(call.viewer, call.ids["post_id"], call.ids["comment_id"])


@routes.get(LIST, PUBLIC, lists=comments)
def list_comments(call: Call, post_id: UUID) -> ReadPlan:
    """List the comments on a post"""
    return call.list(comments, _scope(call))


@routes.post(LIST, "social:write", find=_post, body=NewComment, returns=comments, takes_id=True)
def create_comment(call: Call, post_id: UUID) -> Reply:
    """Comment on a post"""
    comment = service.create_comment(call.viewer, call.row, call.data, call.given_id)
    return call.created(comments, {**_scope(call), "id": comment.id})


@routes.get(ONE, PUBLIC, reads=comments)
def get_comment(call: Call, post_id: UUID, comment_id: UUID) -> ReadPlan:
    return call.one(comments, {**_scope(call), "id": comment_id})


@routes.patch(ONE, "social:write", find=_own, body=CommentChange, returns=comments)
def change_comment(call: Call, post_id: UUID, comment_id: UUID) -> Reply:
    """Change one's own comment"""
    call.match(call.row.comment.version)
    service.change_comment(call.row, call.data)
    return call.written(comments, {**_scope(call), "id": comment_id})


@routes.delete(ONE, "social:write", find=_deletable)
def delete_comment(call: Call, post_id: UUID, comment_id: UUID) -> Reply:
    """Delete a comment

    By its author, the post's author, or the staff of the post's store.
    """
    call.match(call.row.comment.version)
    service.delete_comment(call.row)
    return no_content()
