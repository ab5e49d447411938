"""What may be read of one's own account, with all that hangs on it, and of others' public profiles."""

from dues.accounts.models import User
from dues.accounts.reads import users
from dues.billing.reads import subscriptions
from dues.payments.models import Payment
from dues.payments.reads import payments
from dues.reads import Computed, Many, Resource
from dues.reads.resource import Schema, links_schema
from dues.social.reads import followed_by_me, visible_count
from dues.social.visibility import HIDDEN, MEMBERSHIPS, VISIBLE
from dues.subscriptions.models import SubscriptionRow

# `only_store` in the scope is the store that the caller's token is bound to, or null.
me = Resource(
    "Me",
    User,
    fields={
        "id": User.id,
        "email": User.email,
        "email_verified": Computed("{email_verified_at} is not null", {"type": "boolean"}),
        "name": User.name,
        "version": User.version,
        "created_at": User.created_at,
        "updated_at": User.updated_at,
        "links": Computed(
            "json_build_object('self', '/v1/me', 'profile', '/v1/users/' || {id}, 'addresses', '/v1/me/addresses',"
            " 'payments', '/v1/me/payments', 'subscriptions', '/v1/me/subscriptions')",
            links_schema("self", "profile", "addresses", "payments", "subscriptions"),
        ),
    },
    includes={
        "subscriptions": Many(
            subscriptions,
            {SubscriptionRow.user_id: User.id},
            where="(%(only_store)s::uuid is null or {store_id} = %(only_store)s::uuid)",
        ),
        "payments": Many(
            payments,
            {Payment.user_id: User.id},
            where="(%(only_store)s::uuid is null or {store_id} = %(only_store)s::uuid)",
        ),
    },
    tags=lambda scope: (f"user:{scope['id']}", "packages"),
)

_COUNT: Schema = {"type": "integer", "minimum": 0}

# As `viewer` in the scope sees it.
profiles = Resource(
    "Profile",
    User,
    fields={
        **users.fields,
        "stores_count": Computed("(select count(*) from stores s where s.owner_id = {id})", _COUNT),
        "posts_count": Computed(
            "(select count(*) from posts p where p.author_id = {id} and p.status = 'published'"
            f" and {Computed(VISIBLE, {}).render('p')})",
            _COUNT,
        ),
        "followers_count": visible_count(
            "(select s.followers from follow_stats s where s.user_id = {id})",
            "follows w on w.followed_id = {id} and w.follower_id = h.user_id",
        ),
        "following_count": visible_count(
            "(select s.following from follow_stats s where s.user_id = {id})",
            "follows w on w.follower_id = {id} and w.followed_id = h.user_id",
        ),
        "followed_by_me": followed_by_me("id"),
    },
    where=f"{{deleted_at}} is null and {{id}} not in {HIDDEN}",
    tags=lambda scope: (
        f"user:{scope['id']}",
        f"user:{scope['id']}:counts",
        *((f"user:{scope['viewer']}:sees",) if scope.get("viewer") else ()),
    ),
    apart=MEMBERSHIPS,
    words=("id",),
)
