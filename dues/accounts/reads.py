"""What may be read of people's rows: users as others' answers embed them, addresses, tokens.

What users see of themselves, and what the public sees of them, counts rows of slices above: it is in dues/profiles.
"""

from dues.accounts.models import Address, Token, User
from dues.reads import Computed, Resource
from dues.reads.resource import links_schema

users = Resource(
    "User",
    User,
    fields={
        "id": User.id,
        "name": User.name,
        "version": User.version,
        "created_at": User.created_at,
        "updated_at": User.updated_at,
        "links": Computed("json_build_object('self', '/v1/users/' || {id})", links_schema("self")),
    },
    tags=lambda scope: (f"user:{scope['id']}",),
)

addresses = Resource(
    "Address",
    Address,
    fields={
        "id": Address.id,
        "label": Address.label,
        "line1": Address.line1,
        "line2": Address.line2,
        "city": Address.city,
        "region": Address.region,
        "postal_code": Address.postal_code,
        "country": Address.country,
        "company": Address.company,
        "tax_id": Address.tax_id,
        "is_default": Address.is_default,
        "version": Address.version,
        "created_at": Address.created_at,
        "updated_at": Address.updated_at,
        "links": Computed("json_build_object('self', '/v1/me/addresses/' || {id})", links_schema("self")),
    },
    sorts={"created_at": Address.created_at},
    tags=lambda scope: (f"user:{scope['user_id']}",),
)

# The list is shorter, and a token gone, when the next one expires.
_NEXT_EXPIRY = (
    "(select min(e.expires_at) from api_tokens e"
    " where e.user_id = %(user_id)s and e.revoked_at is null and e.expires_at > now())"
)

tokens = Resource(
    "Token",
    Token,
    fields={
        "id": Token.id,
        "name": Token.name,
        "scopes": Token.scopes,
        "store_id": Token.store_id,
        "expires_at": Token.expires_at,
        "version": Token.version,
        "created_at": Token.created_at,
        "updated_at": Token.updated_at,
        "links": Computed("json_build_object('self', '/v1/tokens/' || {id})", links_schema("self")),
    },
    sorts={"created_at": Token.created_at},
    where="{revoked_at} is null and {expires_at} > now()",
    until=_NEXT_EXPIRY,
    tags=lambda scope: (f"user:{scope['user_id']}:tokens",),
)

# A token in the answer that shows it for the only time. The database has only its hash: the route fills it in.
issued_tokens = Resource(
    "IssuedToken",
    Token,
    fields={
        **tokens.fields,
        "token": Computed("''::text", {"type": "string", "description": "to be sent as a bearer; shown only here"}),
    },
    where=tokens.where,
    tags=tokens.tags,
)
