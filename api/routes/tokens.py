"""Tokens: logging in, narrower tokens, what is in force, and revoking.

A token stands in one answer only, and is not written down with it: an Idempotency-Key keeps the answer without the
token, which is made again from the request when the same request is sent again.
"""

from uuid import UUID

import ujson

from api.auth import PUBLIC
from api.reply import Reply, json_reply, no_content
from api.routing import Call, Routes
from dues.accounts import tokens as service
from dues.accounts.models import Token
from dues.accounts.reads import issued_tokens, tokens
from dues.accounts.tokens import CheckedLogIn, LogIn, NewToken
from dues.reads import ReadPlan
from dues.reads.resource import Scope

routes = Routes(
    "tokens",
    examples={
        "expires_at": "2026-12-20T14:39:00.000000+00:00",
        "expires_in": 86400,
        "NewToken.name": "till at the door",
        "Token.name": "till at the door",
        "IssuedToken.name": "till at the door",
        "scopes": ["catalog:read", "payments:read"],
        "Token.store_id": None,
        "IssuedToken.store_id": None,
    },
)
LIST, ONE = "/v1/tokens", "/v1/tokens/{token_id}"


def _scope(call: Call) -> Scope:
    """The caller's tokens; to one that is bound to a store, those of that store."""
    actor = call.actor
    return {"user_id": actor.user_id} | ({"store_id": actor.store_id} if actor.store_id else {})


def _find(call: Call) -> Token:
    return service.get_token(call.actor, call.ids["token_id"])


def _show(call: Call, reply: Reply) -> Reply:
    """The answer with the token in it, which goes out and is kept nowhere."""
    assert reply.body
    document = ujson.loads(reply.body)
    document["token"] = service.write_token(call.seed, UUID(document["id"]))
    headers = {name: value for name, value in reply.headers.items() if name != "ETag"}
    return json_reply(document, reply.status, headers | {"Cache-Control": "no-store"})


@routes.get(LIST, "account:read", lists=tokens)
def list_tokens(call: Call) -> ReadPlan:
    return call.list(tokens, _scope(call))


def _check_log_in(call: Call) -> CheckedLogIn | None:
    return None if call.access.actor else service.check_log_in(call.data)


@routes.post(
    LIST,
    PUBLIC,
    prepare=_check_log_in,
    body=LogIn,
    bearer_scope="account:write",
    bearer_body=NewToken,
    returns=issued_tokens,
    seal=_show,
    limit="login",
)
def create_token(call: Call) -> Reply:
    """Log in, or issue a narrower token

    Logging in gives every scope for 30 days. A token that is sent issues one that does no more than itself: a subset
    of its scopes, for its store if it is bound to one, expiring no later. The token is shown in this answer only.

    After 10 wrong passwords within 15 minutes, of an e-mail with an account or of one without, log-ins with it are 429
    until those are over; a new password by mail (`POST /v1/password-resets`) ends that, too. A user has at most 100
    tokens in force: beyond that a log-in ends the oldest one, and a narrower token is 409.
    """
    if call.access.actor:
        token = service.narrow_token(call.access.actor, call.data, call.seed)
    else:
        token = service.log_in(call.prepared, call.seed)
    return call.created(issued_tokens, {"user_id": token.user_id, "id": token.id})


@routes.get(ONE, "account:read", reads=tokens)
def get_token(call: Call, token_id: UUID) -> ReadPlan:
    return call.one(tokens, {**_scope(call), "id": token_id})


@routes.delete(ONE, "account:write", find=_find)
def revoke_token(call: Call, token_id: UUID) -> Reply:
    """Revoke a token

    It opens nothing from this answer on; it may be the one that is sent.
    """
    call.match(call.row.version)
    # It may be the caller's own.
    call.hold()
    service.revoke_token(call.row)
    return no_content()
