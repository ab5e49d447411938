"""Feeds: all that one may see, and what one follows."""

from api.routing import Call, Routes
from dues.feeds.reads import feed, newsfeed
from dues.reads import ReadPlan
from dues.social.reads import posts_scope

routes = Routes("feeds")


@routes.get("/v1/feed", "social:read", unbound=True, lists=feed)
def get_feed(call: Call) -> ReadPlan:
    """All posts that I may see, newest first"""
    return call.list(feed, posts_scope(call.viewer))


@routes.get("/v1/newsfeed", "social:read", unbound=True, lists=newsfeed)
def get_newsfeed(call: Call) -> ReadPlan:
    """Posts of those I follow, my own, and those of the stores that I am a member of or work for, newest first"""
    return call.list(newsfeed, posts_scope(call.viewer))
