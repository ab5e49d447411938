"""Tokens: issued at log-in, narrowed, revoked. Each function is part of its caller's transaction.

A token is `dues_` and 32 bytes in base64url; the database has only its SHA-256. One asked for with a token never does
more than that token: it has a subset of its scopes, is bound to its store if that is bound, and does not outlive it.
Those that a token was used to issue stay when it is revoked; a new password revokes all.
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct
from sqlalchemy import delete, select, update

from dues.accounts.actor import SCOPES, Actor, Scope
from dues.accounts.fields import Name, TypedEmail, TypedPassword
from dues.accounts.models import Token, find_user, lock_user
from dues.accounts.passwords import NOBODY, hash_password, is_outdated, is_password
from dues.clock import now
from dues.errors import Forbidden, NotFound, Unauthenticated, ValidationFailed
from dues.ids import first_id, new_id
from dues.postgres import db
from dues.postgres.constraints import on_violation
from dues.reads.tags import token_tag, touch

LIFETIME = timedelta(days=30)
# Deleted at a time: each is a tag to touch.
_MOST = 200

Seconds = Annotated[int, Meta(ge=1, le=int(LIFETIME.total_seconds()), description="seconds")]


class LogIn(Struct, forbid_unknown_fields=True):
    """What proves who one is."""

    email: TypedEmail
    password: TypedPassword


class NewToken(Struct, forbid_unknown_fields=True):
    """A token that does no more than the caller's; it expires with the caller's if not before."""

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=len(SCOPES))]
    store_id: UUID | None = None
    expires_in: Seconds = int(LIFETIME.total_seconds())


def hash_token(token: str) -> bytes:
    """As tokens are stored. A token holds 256 random bits, so a plain hash cannot be searched backwards."""
    return sha256(token.encode()).digest()


def new_token() -> str:
    """A token for a row that the caller writes himself."""
    return write_token(secrets.token_bytes(32), new_id())


def write_token(seed: bytes, token_id: UUID) -> str:
    """The token of this row; only who has the seed (32 bytes that nobody can guess) can write it again."""
    secret = hmac.digest(seed, b"token\0" + token_id.bytes, sha256)
    return "dues_" + urlsafe_b64encode(secret).decode().rstrip("=")


def log_in(credentials: LogIn, seed: bytes) -> Token:
    """A token with every scope. Takes as long for an e-mail that nobody has as for a wrong password.

    Raises: Unauthenticated.
    """
    found = find_user(credentials.email)
    if not is_password(credentials.password, found.password_hash if found else NOBODY) or found is None:
        raise _bad_credentials()
    # Only who knows the password may lock the row. It may have been changed since it was read.
    user = lock_user(found.id)
    if user.password_hash != found.password_hash and not is_password(credentials.password, user.password_hash):
        raise _bad_credentials()
    if is_outdated(user.password_hash):
        user.password_hash = hash_password(credentials.password)
        touch(f"user:{user.id}")
    return _issue(user.id, seed, name="log-in", scopes=list(SCOPES), store_id=None, expires_at=now() + LIFETIME)


def narrow_token(actor: Actor, new: NewToken, seed: bytes) -> Token:
    """Raises: Forbidden for more than the caller's own token may do; ValidationFailed for a store that is none;
    Unauthenticated where the caller's token was revoked meanwhile."""
    if more := set(new.scopes) - actor.scopes:
        raise Forbidden(f"the token lacks the scope {', '.join(sorted(more))}", code="insufficient_scope")
    store_id = new.store_id or actor.store_id
    if actor.store_id is not None and store_id != actor.store_id:
        raise Forbidden("the token is bound to another store", code="wrong_store")
    # A new password revokes under this lock: it either sees the token issued here or was seen here.
    lock_user(actor.user_id)
    if db.session.get_one(Token, actor.token_id).revoked_at is not None:
        raise Unauthenticated("the token has been revoked")
    with on_violation(
        "api_tokens_store_id_fkey", ValidationFailed.of("#/store_id", "there is no such store", code="unknown_store")
    ):
        return _issue(
            actor.user_id,
            seed,
            name=new.name,
            scopes=[scope for scope in SCOPES if scope in new.scopes],
            store_id=store_id,
            expires_at=min(now() + timedelta(seconds=new.expires_in), actor.expires_at),
        )


def get_token(actor: Actor, token_id: UUID) -> Token:
    """One of the caller's tokens that are in force, locked; to a token bound to a store, only those of that store
    exist. Raises: NotFound."""
    conditions = [Token.id == token_id, Token.user_id == actor.user_id]
    conditions += [Token.revoked_at.is_(None), Token.expires_at > now()]
    if actor.store_id is not None:
        conditions.append(Token.store_id == actor.store_id)
    token = db.session.scalar(select(Token).where(*conditions).with_for_update())
    if token is None:
        raise NotFound("there is no such token")
    return token


def revoke_token(token: Token) -> None:
    """From the commit on it opens nothing."""
    token.revoked_at = now()
    touch(f"user:{token.user_id}:tokens", token_tag(token.token_hash))


def revoke_others(user_id: UUID, token_id: UUID) -> None:
    """Revoke all of a user's tokens but this one. The user's row must be locked."""
    revoked = db.session.scalars(
        update(Token)
        .where(Token.user_id == user_id, Token.id != token_id, Token.revoked_at.is_(None))
        .values(revoked_at=now(), version=Token.version + 1)
        .returning(Token.token_hash)
        .execution_options(synchronize_session=False)
    )
    touch(f"user:{user_id}:tokens", *map(token_tag, revoked))


def delete_expired_tokens() -> int:
    """Delete tokens that have opened nothing since yesterday. Part of the caller's transaction(). Returns: how many; 0
    means that none are left.

    They are found by their ids, which tell when they were issued: none is issued for longer than LIFETIME.
    """
    day = timedelta(days=1)
    found = db.session.execute(
        select(Token.id, Token.user_id, Token.token_hash)
        .where(Token.id < first_id(now() - LIFETIME - day), Token.expires_at < now() - day)
        .order_by(Token.id)
        .limit(_MOST)
        .with_for_update(skip_locked=True)
    ).all()
    if found:
        gone = delete(Token).where(Token.id.in_([token.id for token in found]))
        db.session.execute(gone.execution_options(synchronize_session=False))
    for token in found:
        touch(f"user:{token.user_id}:tokens", token_tag(token.token_hash))
    return len(found)


def _issue(
    user_id: UUID, seed: bytes, *, name: str, scopes: list[Scope], store_id: UUID | None, expires_at: datetime
) -> Token:
    token = Token(
        id=new_id(), user_id=user_id, name=name, scopes=list(scopes), store_id=store_id, expires_at=expires_at
    )
    token.token_hash = hash_token(write_token(seed, token.id))
    db.session.add(token)
    touch(f"user:{user_id}:tokens")
    return token


def _bad_credentials() -> Unauthenticated:
    return Unauthenticated("the e-mail or the password is wrong", code="bad_credentials")
