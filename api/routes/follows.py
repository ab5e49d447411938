"""Follows and blocks: whom one follows, who follows whom, and who is invisible to whom."""

from uuid import UUID

from api.reply import Reply, no_content
from api.routing import Call, Routes
from dues.reads import ReadPlan
from dues.social import relations as service
from dues.social.reads import blocks, followers, following, follows
from dues.social.visibility import require_user

routes = Routes("follows")
FOLLOWED, BLOCKED = "/v1/me/following/{user_id}", "/v1/me/blocks/{user_id}"


def _user(call: Call) -> None:
    require_user(call.viewer, call.ids["user_id"])


def _blockable(call: Call) -> None:
    service.require_blockable(call.viewer, call.ids["user_id"])


@routes.get("/v1/users/{user_id}/followers", "social:read", lists=followers)
def list_followers(call: Call, user_id: UUID) -> ReadPlan:
    """List who follows a user"""
    return call.list(followers, {**call.viewer.scope, "followed_id": user_id})


@routes.get("/v1/users/{user_id}/following", "social:read", lists=following)
def list_following(call: Call, user_id: UUID) -> ReadPlan:
    """List whom a user follows"""
    return call.list(following, {**call.viewer.scope, "follower_id": user_id})


@routes.put(FOLLOWED, "social:write", unbound=True, find=_user, returns=follows)
def follow_user(call: Call, user_id: UUID) -> Reply:
    """Follow a user; again it changes nothing"""
    service.follow(call.actor.user_id, user_id)
    return call.written(follows, {"follower_id": call.actor.user_id, "followed_id": user_id})


@routes.delete(FOLLOWED, "social:write", unbound=True, find=_user)
def unfollow_user(call: Call, user_id: UUID) -> Reply:
    """Follow a user no longer"""
    service.unfollow(call.actor.user_id, user_id)
    return no_content()


@routes.get("/v1/me/blocks", "social:read", unbound=True, lists=blocks)
def list_blocks(call: Call) -> ReadPlan:
    """List whom I have blocked"""
    return call.list(blocks, {**call.viewer.scope, "blocker_id": call.actor.user_id})


@routes.put(BLOCKED, "social:write", unbound=True, find=_blockable, returns=blocks)
def block_user(call: Call, user_id: UUID) -> Reply:
    """Block a user: each is invisible to the other

    Neither follows the other any more.
    """
    service.block(call.actor.user_id, user_id)
    return call.written(blocks, {**call.viewer.scope, "blocker_id": call.actor.user_id, "blocked_id": user_id})


@routes.delete(BLOCKED, "social:write", unbound=True, find=_blockable)
def unblock_user(call: Call, user_id: UUID) -> Reply:
    """Block a user no longer"""
    service.unblock(call.actor.user_id, user_id)
    return no_content()
