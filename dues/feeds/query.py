"""Where the rows of the feeds are looked for.

**Legs propose, the predicate decides.** There is a leg for each reason why a post can be in a feed, and each goes
through a partial index that holds what the viewer may see for that reason and hardly anything else, newest first, until
it has a page full. So however many posts are not for a viewer, they are not gone through. What the legs propose still
passes the predicate of dues/social/visibility.py before it is shown.

Whom one follows is the leg with a choice to make. Posts of people who are followed are looked for among the newest of
all (`near`), and as many of those are read as asking each of these people would cost. Where that is not enough for a
page, each is asked after all, in two steps (`newest`, `far`): the newest post of each tells who can be on the page, and
these, no more than a page has rows, are then asked for a page full.

A token that is bound to a store has legs of its own: what is public, and what is that store's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dues.reads import Computed
from dues.reads.resource import Walk
from dues.social.visibility import HIDDEN, ONLY_STORE, VIEWER, VISIBLE

# Whom the viewer follows; the stores and packages that they are a member of; the stores they work for.
GIVEN = f"""
    followed as materialized (
        select w.followed_id as author_id from follows w
        where w.follower_id = {VIEWER} and {ONLY_STORE} is null and w.followed_id not in {HIDDEN}),
    joined as materialized (
        select m.store_id, m.package_id from memberships m where m.user_id = {VIEWER} and {ONLY_STORE} is null),
    staffed as materialized (
        select s.store_id from store_staff s where s.user_id = {VIEWER} and {ONLY_STORE} is null),
"""
# Of how many posts it costs as much to look at the authors as to look for the newest post of one.
_NEAR = 20

_FOR_FOLLOWERS = "p.status = 'published' and p.privacy in ('public', 'followers')"
_FOLLOWED = f"""
    near as materialized (
        select r.feed_id from (
            select p.feed_id, p.author_id from posts p where {_FOR_FOLLOWERS}{{after}}
            order by p.feed_id {{direction}} limit (select {_NEAR} * count(*) from followed)) r
        -- `is true` has PostgreSQL look the author up in a hash table.
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
# Where they are only counted, in any order.
_ALL_FOLLOWED = f"""
    select p.feed_id from followed f join posts p on p.author_id = f.author_id where {_FOR_FOLLOWERS} limit {{limit}}
"""
# What a store has for all of its members, and for those of each package.
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
    """A `Source` of the newsfeed; `with_public`: of the feed, which also has what everybody may see, and where drafts
    can be asked for."""

    with_public: bool
    given: str = GIVEN
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def estimated(self) -> str:
        return "select from posts where status = 'published' and privacy = 'public'" if self.with_public else ""

    def serves(self, columns: Sequence[str]) -> bool:
        """Where one author or store is asked for, their own index has nothing else."""
        return not columns

    def rows(self, walk: Walk, limit: str) -> str:
        return self._union(walk, limit, _FROM_FOLLOWED, _FOLLOWED, " order by {alias}.feed_id {direction}")

    def counted(self, walk: Walk, limit: str) -> str:
        return self._union(walk, limit, _ALL_FOLLOWED, "", "")

    def _union(self, walk: Walk, limit: str, followed: str, given: str, order: str) -> str:
        """What all legs propose, each the first in an order, and each once."""
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
