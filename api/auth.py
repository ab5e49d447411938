"""From a request to who is calling and what they may do, with refusals in the order the contract gives."""

from collections.abc import Mapping
from uuid import UUID

from flask import g

from api.request import Request
from dues.accounts.actor import Actor
from dues.errors import Forbidden, NotFound, Unauthenticated
from dues.stores.access import Access, access_of, require_store

PUBLIC = "public"


def bearer_token(sent: Request) -> str | None:
    """The token of the Authorization header, or None where there is no such header.

    Raises: Unauthenticated for another scheme or an empty token.
    """
    header = sent.header("authorization")
    if header is None:
        return None
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated("the Authorization header must be: Bearer <token>")
    return token.strip()


def authorize(sent: Request, scope: str, ids: dict[str, UUID | None], *, unbound: bool = False) -> Access:
    """The caller's access to a route that wants `scope` (PUBLIC: no token is needed).

    401 no or bad token; 403 without the scope or with a token bound to another store (to any, where `unbound`); 404
    where the path names a store that does not exist or an id that is none.
    """
    token = bearer_token(sent)
    if token is None and scope != PUBLIC:
        raise Unauthenticated("this needs an Authorization header: Bearer <token>")
    access = _known_access(sent, token, ids.get("store_id"))
    admit(access, scope, ids, unbound=unbound)
    return access


def admit(access: Access, scope: str, ids: Mapping[str, UUID | None], *, unbound: bool = False) -> None:
    """The part of `authorize()` that comes after the token. Raises: Unauthenticated, Forbidden, NotFound."""
    store_id = ids.get("store_id")
    if access.store_id != store_id:
        raise RuntimeError("this access was worked out for another store")
    if scope != PUBLIC:
        if access.actor is None:
            raise Unauthenticated("this needs an Authorization header: Bearer <token>")
        require_scope(access.actor, scope)
        require_binding(access.actor, store_id, unbound=unbound)
    if None in ids.values():
        raise NotFound("there is no such resource")
    if store_id is not None:
        require_store(access)


def _known_access(sent: Request, token: str | None, store_id: UUID | None) -> Access:
    """From the front door where it knows, else found out, and left to it."""
    leftover = sent.leftover
    if leftover and leftover.access and leftover.access.store_id == store_id:
        return leftover.access
    access = access_of(token, store_id)
    g.token_is_good = token is not None
    if leftover:
        leftover.access = access
    return access


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
