"""What may be read of the feeds: posts, as dues/social/reads.py shows them."""

from dataclasses import replace

from dues.feeds.query import FeedSource
from dues.social.reads import posts

# All that the viewer may see, and without a viewer what everybody may. Unfiltered, or of one author or store.
feed = replace(
    posts,
    filters={name: declared for name, declared in posts.filters.items() if name != "privacy"},
    source=FeedSource(with_public=True),
)
newsfeed = replace(posts, filters={}, search=None, source=FeedSource(with_public=False))
