"""What may be read of one's own account, with all that hangs on it, and of others' public profiles."""

from dues.accounts.models import User
from dues.accounts.reads import users
from dues.payments.models import Payment
from dues.payments.reads import payments
from dues.reads import Computed, Many, Resource
from dues.reads.resource import links_schema

# Nobody has subscriptions yet; clients may ask for them already and find none.
subscriptions = Resource(
    "Subscription",
    User,
    fields={"id": User.id},
    sorts={"created_at": User.created_at},
    where="false",
    tags=lambda scope: (),
)

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
        "subscriptions": Many(subscriptions, {User.id: User.id}),
        "payments": Many(
            payments,
            {Payment.user_id: User.id},
            where="(%(only_store)s::uuid is null or {store_id} = %(only_store)s::uuid)",
        ),
    },
    tags=lambda scope: (f"user:{scope['id']}", "packages"),
)

profiles = Resource(
    "Profile",
    User,
    fields={
        **users.fields,
        "stores_count": Computed(
            "(select count(*) from stores s where s.owner_id = {id})", {"type": "integer", "minimum": 0}
        ),
    },
    where="{deleted_at} is null",
    tags=users.tags,
)
