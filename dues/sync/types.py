"""The types that are synced, and the rows of each type that a caller gets.

    the caller's own                  me, addresses, payments, subscriptions, posts, comments, likes, follows
    of stores where they are staff    packages, payments, subscriptions, posts
    of stores where they are members  packages, and the posts that are for everybody or for their membership

A row is in the streams of its users and stores (`sync_changes`). When it is read from a stream it also has to meet
`where`; if it does not, it is shown as deleted to those who may have seen it (streams.py). So everything that decides
who sees a row has to be part of the row, so that a change of it is a change in the stream; or has to be one of the
`facts`, which apply to all rows of a type.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

from dues.accounts.actor import Scope
from dues.accounts.reads import addresses
from dues.packages.reads import packages
from dues.payments.reads import payments
from dues.profiles.reads import me
from dues.reads import Computed, Resource
from dues.reads.items import item_of
from dues.reads.selection import Selection
from dues.social.reads import follows, likes, told_comments, told_posts
from dues.social.visibility import ONLY_STORE, VIEWER, VISIBLE
from dues.subscriptions.reads import subscriptions


@dataclass(frozen=True)
class Synced:
    """`key` are pairs: a column of the resource's table, and the value that it must equal, which may refer to the
    change as `k.id` and `k.within_id`. `id` is the column that assigns a row to its change. `facts` are the facts
    (changes.py) that decide who sees what."""

    name: str
    resource: Resource
    key: tuple[tuple[str, str], ...]
    facts: tuple[str, ...] = ("only_store",)
    scope: Scope | None = None
    is_own: bool = True
    of_staff: bool = False
    of_members: bool = False
    where: str = ""
    id: str = "id"

    @cached_property
    def statement(self) -> str:
        """The statement that reads the rows named by `%(ids)s` and `%(within)s`. It returns three arrays: the ids, the
        versions (null for rows without one) and the rows as JSON."""
        return _statement(self)


@lru_cache
def _statement(synced: Synced) -> str:
    resource = synced.resource
    item = item_of(resource, Selection(tuple(resource.fields)), "t")
    version = "t.version" if "version" in resource.table.c else "null::bigint"
    terms = [f"t.{column} = {value}" for column, value in synced.key]
    where = Computed(synced.where, {}).render("t") if synced.where else "true"
    return (
        f"select array_agg(r.id::text), array_agg(r.version), array_agg(r.item::text) from ("
        f"select t.{synced.id} as id, {version} as version, {item} as item"
        f" from unnest(%(ids)s::uuid[], %(within)s::uuid[]) as k(id, within_id)"
        f" join {resource.table.name} t on {' and '.join(terms)} where {where}) r"
    )


_IN_ONLY_STORE = f"({ONLY_STORE} is null or {{store_id}} = {ONLY_STORE})"
_ON_ONLY_STORE = (
    f"({ONLY_STORE} is null or exists (select from posts p where p.id = {{post_id}} and p.store_id = {ONLY_STORE}))"
)
# Who follows the author is not part of the post, so posts that only followers see are left out; feeds show them.
_NOT_AS_FOLLOWER = f"""({{privacy}} <> 'followers' or {{author_id}} = {VIEWER}
    or exists (select from store_staff f where f.store_id = {{store_id}} and f.user_id = {VIEWER}))"""
_BELOW = (("store_id", "k.within_id"), ("id", "k.id"))

# In alphabetical order, in which changes of one transaction are sent.
TYPES: dict[str, Synced] = {
    synced.name: synced
    for synced in (
        Synced("address", addresses, (("user_id", "k.within_id"), ("id", "k.id")), scope="account:read"),
        Synced(
            "comment",
            told_comments,
            (("post_id", "k.within_id"), ("id", "k.id")),
            scope="social:read",
            where=_ON_ONLY_STORE,
        ),
        Synced(
            "follow",
            follows,
            (("follower_id", VIEWER), ("followed_id", "k.id")),
            scope="social:read",
            id="followed_id",
        ),
        Synced(
            "like",
            likes,
            (("post_id", "k.id"), ("user_id", VIEWER)),
            scope="social:read",
            where=_ON_ONLY_STORE,
            id="post_id",
        ),
        Synced("me", me, (("id", "k.id"),), scope="account:read"),
        Synced(
            "package",
            packages,
            _BELOW,
            facts=("only_store", "staff", "stores"),
            is_own=False,
            of_staff=True,
            of_members=True,
        ),
        Synced(
            "payment",
            payments,
            _BELOW,
            facts=("only_store", "staff"),
            scope="payments:read",
            of_staff=True,
            where=_IN_ONLY_STORE,
        ),
        Synced(
            "post",
            told_posts,
            (("id", "k.id"),),
            facts=("only_store", "staff", "stores", "memberships", "hidden"),
            scope="social:read",
            of_staff=True,
            of_members=True,
            where=f"{VISIBLE} and {_NOT_AS_FOLLOWER}",
        ),
        Synced(
            "subscription",
            subscriptions,
            _BELOW,
            facts=("only_store", "staff"),
            scope="subscriptions:read",
            of_staff=True,
            where=_IN_ONLY_STORE,
        ),
    )
}
