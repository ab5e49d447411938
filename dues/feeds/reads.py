"""What may be read of the feeds: posts, as dues/social/reads.py shows them."""

from dataclasses import replace

from dues.feeds.query import FeedSource
from dues.reads.freshness.journal import PUBLIC
from dues.social.reads import posts
from dues.social.visibility import VIEWER

# The authors and stores whose posts may be in the viewer's feeds: the users they follow, the stores that they are a
# member of or work for, and the viewer.
_AUDIENCE = f"""
    select followed_id as id from follows where follower_id = {VIEWER}
    union all select m.store_id from memberships m where m.user_id = {VIEWER}
    union all select store_id from store_staff where user_id = {VIEWER}
    union all select {VIEWER} where {VIEWER} is not null
"""

# Every post that the viewer may see; without a viewer, every public post.
feed = replace(
    posts,
    filters={name: declared for name, declared in posts.filters.items() if name != "privacy"},
    source=FeedSource(with_public=True),
    subjects=lambda scope: (PUBLIC,),
    audience=_AUDIENCE,
)
newsfeed = replace(
    posts,
    filters={},
    search=None,
    source=FeedSource(with_public=False),
    subjects=lambda scope: (),
    audience=_AUDIENCE,
)
