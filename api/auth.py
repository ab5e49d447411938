"""From a request to who is calling and what they may do, with refusals in the order the contract gives."""

from collections.abc import Mapping
from uuid import UUID

from api.request import Request
from dues.accounts.actor import Actor
from dues.errors import Forbidden, NotFound, Unauthenticated
from dues.stores.access import Access, access_of, require_store

PUBLIC = "public"

NEEDED = "this needs an Authorization header: Bearer <token>"
# Our tokens are less than half as long; a longer one is refused without being looked up.
_LONGEST_TOKEN = 128


def bearer_token(request: Request) -> str | None:
    """The token of the Authorization header, or None where there is no such header.

    Raises: Unauthenticated for another scheme, or what cannot be a token.
    """
    token = request.token
    if token is not None and not 0 < len(token) <= _LONGEST_TOKEN:
        raise Unauthenticated("the Authorization header must be: Bearer <token>")
    return token


def identify(request: Request, scope: str, store_id: UUID | None) -> Access:
    """What the caller of a route that wants `scope` may do, in a store where one is concerned. In an application
    context.

    Raises: Unauthenticated for a token that is none, or where one is needed and there is none.
    """
    token = bearer_token(request)
    if token is None and scope != PUBLIC:
        raise Unauthenticated(NEEDED)
    return access_of(token, store_id)


def admit(access: Access, scope: str, ids: Mapping[str, UUID | None], *, unbound: bool = False) -> None:
    """Refuse a caller that may not use a route which wants `scope` (PUBLIC: no token is needed).

    401 without a token; 403 without the scope or with a token bound to another store (to any, where `unbound`); 404
    where the path names a store that does not exist or an id that is none.

    Raises: Unauthenticated, Forbidden, NotFound.
    """
    store_id = ids.get("store_id")
    if access.store_id != store_id:
        raise RuntimeError("this access was worked out for another store")
    if scope != PUBLIC:
        if access.actor is None:
            raise Unauthenticated(NEEDED)
        require_scope(access.actor, scope)
        require_binding(access.actor, store_id, unbound=unbound)
    if None in ids.values():
        raise NotFound("there is no such resource")
    if store_id is not None:
        require_store(access)


def require_scope(actor: Actor, scope: str) -> None:
    if scope not in actor.scopes:
        raise Forbidden(f"the token lacks the scope {scope}", code="insufficient_scope")


def require_binding(actor: Actor, store_id: UUID | None, *, unbound: bool = False) -> None:
    """A token bound to one store opens no other, and where it has to be `unbound`, nothing."""
    if actor.store_id is None:
        return
    if unbound:
        raise Forbidden("the token is bound to a store", code="wrong_store")
    if store_id not in (None, actor.store_id):
        raise Forbidden("the token is bound to another store", code="wrong_store")
