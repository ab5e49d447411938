"""What a caller may do: the token and the role in a store, read together in one statement.

support reads payments, subscriptions and customers; a manager also handles packages, refunds, reports, posts and
webhooks; an owner also the staff and the store itself.
"""

from dataclasses import dataclass
from uuid import UUID

from dues.accounts.actor import Actor
from dues.accounts.tokens import hash_token
from dues.db import fetch_row
from dues.errors import Forbidden, NotFound, Unauthenticated

ROLES = ("support", "manager", "owner")

_ACCESS = """
select t.id, t.user_id, t.scopes, t.store_id, t.expires_at, s.id is not null, r.role
from api_tokens t
join users u on u.id = t.user_id and u.deleted_at is null
left join stores s on s.id = %(store_id)s
left join store_staff r on r.store_id = s.id and r.user_id = t.user_id
where t.token_hash = %(token_hash)s and t.revoked_at is null and t.expires_at > now()
"""


@dataclass(frozen=True)
class Access:
    """An actor (None: no token was sent) and, where a store is concerned, whether it exists and the role there."""

    actor: Actor | None
    store_exists: bool = False
    role: str | None = None

    @property
    def is_staff(self) -> bool:
        return self.role is not None

    def has_role(self, least: str) -> bool:
        return self.role is not None and ROLES.index(self.role) >= ROLES.index(least)

    def require_role(self, least: str) -> None:
        """Raises: Forbidden for whoever has less than this role in the store."""
        if not self.has_role(least):
            raise Forbidden(f"this is kept for a store's {least}s" + ("" if least == "owner" else " and those above"))


def access_of(token: str | None, store_id: UUID | None) -> Access:
    """Read what the holder of `token` may do, in one statement.

    Raises: Unauthenticated for a token that is unknown, expired or revoked.
    """
    if token is None:
        if store_id is None:
            return Access(None)
        row = fetch_row("select true from stores where id = %(store_id)s", {"store_id": str(store_id)})
        return Access(None, store_exists=row is not None)
    row = fetch_row(_ACCESS, {"token_hash": hash_token(token), "store_id": store_id and str(store_id)})
    if row is None:
        raise Unauthenticated("the token is unknown, expired or revoked")
    token_id, user_id, scopes, bound_to, expires_at, store_exists, role = row
    return Access(Actor(user_id, token_id, frozenset(scopes), bound_to, expires_at), store_exists, role)


def require_store(access: Access) -> None:
    """Raises: NotFound where the store does not exist."""
    if not access.store_exists:
        raise NotFound("there is no such store")
