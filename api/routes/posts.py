"""Posts: published by people and stores, read by whomever they are for, and liked."""

from uuid import UUID

from api.auth import PUBLIC
from api.reply import Reply, no_content
from api.routing import Call, Routes
from dues.feeds.reads import feed
from dues.reads import ReadPlan
from dues.reads.resource import Scope
from dues.social import posts as service
from dues.social import reactions
from dues.social.models import Post
from dues.social.posts import NewPost, PostChange
from dues.social.reads import likes, posts, posts_scope
from dues.social.visibility import SeenPost, look_at_post

routes = Routes(
    "posts",
    bodies={
        "NewPost": {
            "one's own": {"title": "New wall", "body": "We open at seven.", "privacy": "public"},
            "a store's, for its members": {
                "store_id": "019aa1c2-5d3e-7f60-8a41-3c5e7d9b1f20",
                "body": "The new wall is up. Members climb first.",
                "privacy": "members",
            },
        },
        "PostChange": {"a text": {"body": "We open at eight.", "privacy": "followers"}},
    },
)
LIST, ONE = "/v1/posts", "/v1/posts/{post_id}"


def _find(call: Call) -> Post:
    return service.get_post(call.viewer, call.ids["post_id"])


def _look(call: Call) -> SeenPost:
    return look_at_post(call.viewer, call.ids["post_id"])


def _one(call: Call, post_id: UUID) -> Scope:
    return posts_scope(call.viewer, id=post_id)


@routes.get(LIST, PUBLIC, lists=feed)
def list_posts(call: Call) -> ReadPlan:
    """List the posts that you may see"""
    return call.list(feed, posts_scope(call.viewer))


@routes.post(LIST, "social:write", body=NewPost, returns=posts, takes_id=True)
def create_post(call: Call) -> Reply:
    """Write a post

    One's own, or with `store_id` a store's, which its managers and owners write.
    """
    post = service.create_post(call.viewer, call.data, call.given_id)
    return call.created(posts, _one(call, post.id))


@routes.get(ONE, PUBLIC, reads=posts)
def get_post(call: Call, post_id: UUID) -> ReadPlan:
    return call.one(posts, _one(call, post_id))


@routes.patch(ONE, "social:write", find=_find, body=PostChange, returns=posts)
def change_post(call: Call, post_id: UUID) -> Reply:
    """Change a post, or publish a draft"""
    call.match(call.row.version)
    service.change_post(call.row, call.data)
    return call.written(posts, _one(call, post_id))


@routes.delete(ONE, "social:write", find=_find)
def delete_post(call: Call, post_id: UUID) -> Reply:
    """Delete a post, with its comments and likes"""
    call.match(call.row.version)
    service.delete_post(call.row)
    return no_content()


@routes.get("/v1/users/{user_id}/posts", PUBLIC, lists=posts)
def list_user_posts(call: Call, user_id: UUID) -> ReadPlan:
    """List a user's posts"""
    return call.list(posts, posts_scope(call.viewer, whose=user_id))


@routes.get("/v1/stores/{store_id}/posts", PUBLIC, lists=posts)
def list_store_posts(call: Call, store_id: UUID) -> ReadPlan:
    """List a store's posts"""
    return call.list(posts, posts_scope(call.viewer, store_id=store_id))


@routes.put(f"{ONE}/like", "social:write", look=_look, returns=likes)
def like_post(call: Call, post_id: UUID) -> Reply:
    """Like a post; again it changes nothing"""
    reactions.like(call.viewer, post_id)
    return call.written(likes, {**call.viewer.scope, "post_id": post_id, "user_id": call.actor.user_id})


@routes.delete(f"{ONE}/like", "social:write", look=_look)
def unlike_post(call: Call, post_id: UUID) -> Reply:
    """Like a post no longer"""
    reactions.unlike(call.viewer, post_id)
    return no_content()


@routes.get(f"{ONE}/likes", PUBLIC, lists=likes)
def list_likes(call: Call, post_id: UUID) -> ReadPlan:
    """List who likes a post"""
    return call.list(likes, {**call.viewer.scope, "post_id": post_id})
