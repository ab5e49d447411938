"""How the rows of the feeds are found.

**Legs propose, the predicate decides.** A feed is a union of legs, one for each reason why a post can be in it. Each
leg scans a partial index, newest first, that holds little but what the viewer may see for that reason, and stops after
a page of rows. So the posts that a viewer may not see are never scanned. What the legs propose still has to pass the
predicate of dues/social/visibility.py before it is shown.

The leg of the followed users has two ways. First it looks for their posts among the newest posts of everybody (`near`),
and scans as many of these as a look-up for each followed user would cost. If that does not fill the page, it does look
up each of them, in two steps (`newest`, `far`): the newest post of each tells which authors can be on the page at all,
and of those, at most as many as a page has rows, it reads a page each.

A token that is bound to a store has legs of its own: what is public, and what is that store's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dues.reads import Computed
from dues.reads.resource import Walk
from dues.social.visibility import HIDDEN, ONLY_STORE, VIEWER, VISIBLE

# The users that the viewer follows; the stores and packages that they are a member of; the stores they work for.
GIVEN = f"""
    followed as materialized (
        select w.followed_id as author_id from follows w
        where w.follower_id = {VIEWER} and {ONLY_STORE} is null and w.followed_id not in {HIDDEN}),
    joined as materialized (
        select m.store_id, m.package_id from memberships m where m.user_id = {VIEWER} and {ONLY_STORE} is null),
    staffed as materialized (
        select s.store_id from store_staff s where s.user_id = {VIEWER} and {ONLY_STORE} is null),
"""
# How many posts can be scanned for the cost of looking up the newest post of one author.
_NEAR = 20

_FOR_FOLLOWERS = "p.status = 'published' and p.privacy in ('public', 'followers')"
_FOLLOWED = f"""
    near as materialized (
        select r.feed_id from (
            select p.feed_id, p.author_id from posts p where {_FOR_FOLLOWERS}{{after}}
            order by p.feed_id {{direction}} limit (select {_NEAR} * count(*) from followed)) r
        -- `is true` makes PostgreSQL use a hash table of authors instead of a nested loop.
        where (r.author_id in (select author_id from followed)) is true
        order by r.feed_id {{direction}} limit {{limit}}),
    newest as materialized (
        select f.author_id, x.feed_id from followed f cross join lateral (
            select p.feed_id from posts p where p.author_id = f.author_id and {_FOR_FOLLOWERS}{{after}}
            order by p.feed_id {{direction}} limit 1) x
        where (select count(*) from near) < {{limit}}
        order by x.feed_id {{direction}} limit {{limit}}),
    far as (
        select x.feed_id from newest cross join lateral (
            select p.feed_id from posts p where p.author_id = newest.author_id and {_FOR_FOLLOWERS}{{after}}
            order by p.feed_id {{direction}} limit {{limit}}) x
        order by x.feed_id {{direction}} limit {{limit}}),
"""
_FROM_FOLLOWED = "select feed_id from near union all select feed_id from far"
# For a total: in any order.
_ALL_FOLLOWED = f"""
    select p.feed_id from followed f join posts p on p.author_id = f.author_id where {_FOR_FOLLOWERS} limit {{limit}}
"""
# Posts for all members of a store, and those for the members of one of its packages.
_FROM_JOINED = f"""
    select x.feed_id from (select distinct store_id from joined) s cross join lateral (
        select p.feed_id from posts p
        where p.store_id = s.store_id and p.store_id is not null and p.status = 'published'
            and p.privacy in ('public', 'members') and cardinality(p.package_ids) = 0
            and p.author_id not in {HIDDEN}{{after}}{{first}}) x
    union all
    select x.feed_id from joined s cross join lateral (
        select p.feed_id from post_packages p
        where p.package_id = s.package_id and p.author_id not in {HIDDEN}{{after}}{{first}}) x
"""
_FROM_STAFFED = """
    select x.feed_id from staffed s cross join lateral (
        select p.feed_id from posts p
        where p.store_id = s.store_id and p.store_id is not null and p.status {status} 'published'{after}{first}) x
"""
_OWN = f"""
    select p.feed_id from posts p
    where p.author_id = {VIEWER} and {ONLY_STORE} is null and p.status {{status}} 'published'{{after}}{{first}}
"""
_PUBLIC = f"""
    select p.feed_id from posts p
    where p.status = 'published' and p.privacy = 'public' and p.author_id not in {HIDDEN}{{after}}{{first}}
"""
_OF_ONE_STORE = f"""
    select p.feed_id from posts p
    where p.store_id = {ONLY_STORE} and p.store_id is not null and p.status {{status}} 'published'
        and {Computed(VISIBLE, {}).render("p")}{{after}}{{first}}
"""


@dataclass(frozen=True)
class FeedSource:
    """The `Source` of the newsfeed. With `with_public`, that of the feed, which also has public posts and can be asked
    for drafts."""

    with_public: bool
    given: str = GIVEN
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def estimated(self) -> str:
        return "select from posts where status = 'published' and privacy = 'public'" if self.with_public else ""

    def serves(self, columns: Sequence[str]) -> bool:
        """Not for the posts of one author or store: these have an index of their own."""
        return not columns

    def rows(self, walk: Walk, limit: str) -> str:
        return self._union(walk, limit, _FROM_FOLLOWED, _FOLLOWED, " order by {alias}.feed_id {direction}")

    def counted(self, walk: Walk, limit: str) -> str:
        return self._union(walk, limit, _ALL_FOLLOWED, "", "")

    def _union(self, walk: Walk, limit: str, followed: str, given: str, order: str) -> str:
        """The union of the legs: from each its first rows in the walk's order, without duplicates."""
        is_published = walk.flag("published") if self.with_public else True
        legs = [followed, _FROM_JOINED] if is_published else []
        legs += [_FROM_STAFFED, _OWN]
        if is_published and self.with_public:
            legs.append(_PUBLIC)
        if self.with_public:
            legs.append(_OF_ONE_STORE)
        union = " union ".join(f"({leg})" for leg in legs)
        statement = f"with {given if is_published else ''} proposed as ({union}) select * from proposed r{{first_r}}"
        first = f"{order} limit {{limit}}"
        return statement.format(
            after=walk.after("p"),
            direction=walk.direction,
            limit=limit,
            status="=" if is_published else "<>",
            first=first.format(alias="p", direction=walk.direction, limit=limit),
            first_r=first.format(alias="r", direction=walk.direction, limit=limit),
        )
