"""Tokens: issued at log-in, narrowed, revoked. `check_log_in` comes before the transaction; every other function is
part of its caller's.

A token is `dues_` and 32 bytes in base64url; the database has only its SHA-256. One asked for with a token never does
more than that token: it has a subset of its scopes, is bound to its store if that is bound, and does not outlive it.
Those that a token was used to issue stay when it is revoked; a new password revokes all.
"""

import hmac
import secrets
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any
from uuid import UUID

from msgspec import Meta, Struct
from sqlalchemy import delete, func, select

from dues.accounts.actor import SCOPES, Actor, Scope
from dues.accounts.attempts import Quota, count, take_back
from dues.accounts.fields import Name, TypedEmail, TypedPassword
from dues.accounts.models import Token, find_user, lock_user, mailbox_of
from dues.accounts.passwords import NOBODY, hash_password, is_outdated, is_password
from dues.accounts.telling import tell_cells
from dues.clock import now
from dues.errors import Conflict, Forbidden, NotFound, Outdated, Unauthenticated, Unavailable, ValidationFailed
from dues.ids import new_id
from dues.postgres import db, fetch_row, run_later
from dues.reads.tags import token_tag, touch

LIFETIME = timedelta(days=30)
# The most tokens that one user may have in force.
MAX_TOKENS = 100
# For one e-mail, from wherever they come and whether or not it has an account.
WRONG_PASSWORDS = Quota("wrong passwords", 10, 900, "wrong passwords")

_LOG_IN = "log-in"
# Deleted at a time: each is a tag to touch.
_MOST = 200

_INSERT = """
    insert into api_tokens(id, user_id, store_id, name, token_hash, scopes, expires_at)
    values (%(id)s, %(user_id)s, %(store_id)s, %(name)s, %(token_hash)s, %(scopes)s,
        least(now() + %(life)s, %(ends_by)s))
"""
# No foreign key is ever violated: PostgreSQL would log what was to be inserted.
_KEEP_STORE = "select id from stores where id = %(store_id)s for key share"
# One that a cell has, as the directory knows.
_OF_CELL = "select store_id from store_places where store_id = %(store_id)s and cell <> ''"
_LIVE = "select count(*) from api_tokens where user_id = %(user_id)s and revoked_at is null and expires_at > now()"
# `for update`: waits for transactions that are about to commit what a token allowed (dues/stores/access.py).
_REVOKE_FOUND = """
    with found as (select id from api_tokens where user_id = %(user_id)s and revoked_at is null {which} for update),
    revoked as (
        update api_tokens t set revoked_at = now(), updated_at = now(), version = version + 1
        from found where t.id = found.id returning encode(t.token_hash, 'hex') as token_hash)
    select coalesce(array_agg(token_hash), '{{}}') from revoked
"""
_REVOKE = _REVOKE_FOUND.format(which="and id is distinct from %(but)s order by id")
_END_LOG_INS = _REVOKE_FOUND.format(
    which="and name = %(name)s and expires_at > now() order by created_at, id limit %(surplus)s"
)

Seconds = Annotated[int, Meta(ge=1, le=int(LIFETIME.total_seconds()), description="seconds")]


class LogIn(Struct, forbid_unknown_fields=True):
    """An e-mail and its password."""

    email: TypedEmail
    password: TypedPassword


class NewToken(Struct, forbid_unknown_fields=True):
    """A token that does no more than the caller's; it expires with the caller's if not before."""

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=len(SCOPES))]
    store_id: UUID | None = None
    expires_in: Seconds = int(LIFETIME.total_seconds())


@dataclass(frozen=True)
class IssuedToken:
    """A token's row, just written."""

    id: UUID
    user_id: UUID


def hash_token(token: str) -> bytes:
    """As tokens are stored. A token holds 256 random bits, so a plain hash cannot be searched backwards."""
    return sha256(token.encode()).digest()


def new_token() -> str:
    """A token for a row that the caller of this function writes."""
    return write_token(secrets.token_bytes(32), new_id())


def write_token(seed: bytes, token_id: UUID) -> str:
    """The token of this row; only with the seed (32 bytes that nobody can guess) can it be written again."""
    secret = hmac.digest(seed, b"token\0" + token_id.bytes, sha256)
    return "dues_" + urlsafe_b64encode(secret).decode().rstrip("=")


@dataclass(frozen=True)
class CheckedLogIn:
    """A user whose password has just fitted `password_hash`; `new_hash` is to take its place where it
    was made with other parameters than today's."""

    user_id: UUID
    password_hash: str
    new_hash: str | None


def try_password(email: str, password: str, password_hash: str) -> bool:
    """Whether it is the password. Before the transaction. One that is wrong counts against the e-mail, in whichever
    spelling; one that is right, or that there was no time to check, counts for nothing.

    Raises: TooManyRequests; Unavailable.
    """
    mailbox = mailbox_of(email)
    count(WRONG_PASSWORDS, mailbox)
    try:
        is_right = is_password(password, password_hash)
    except Unavailable:
        take_back(WRONG_PASSWORDS, mailbox)
        raise
    if is_right:
        take_back(WRONG_PASSWORDS, mailbox)
    return is_right


def check_log_in(credentials: LogIn) -> CheckedLogIn:
    """Before the transaction. Does the same, and counts the same, for an e-mail that nobody has as for a wrong
    password.

    Raises: Unauthenticated; TooManyRequests; Unavailable.
    """
    found = find_user(credentials.email)
    is_right = try_password(credentials.email, credentials.password, found.password_hash if found else NOBODY)
    if found is None or not is_right:
        raise Unauthenticated("the e-mail or the password is wrong", code="bad_credentials")
    new_hash = hash_password(credentials.password) if is_outdated(found.password_hash) else None
    return CheckedLogIn(found.id, found.password_hash, new_hash)


def log_in(checked: CheckedLogIn, seed: bytes) -> IssuedToken:
    """A token with every scope. Where the user has as many as there may be, the oldest log-in ends.

    Raises: Outdated where the password was changed since it was checked; Conflict where too many tokens are in force
    and none is a log-in.
    """
    user = lock_user(checked.user_id)
    if user.password_hash != checked.password_hash:
        raise Outdated
    if checked.new_hash:
        user.password_hash = checked.new_hash
        touch(f"user:{user.id}")
    surplus = _count_live(user.id) + 1 - MAX_TOKENS
    if surplus > 0 and _revoke(_END_LOG_INS, {"user_id": user.id, "name": _LOG_IN, "surplus": surplus}) < surplus:
        raise _too_many()
    return _issue(user.id, seed, name=_LOG_IN, scopes=SCOPES, store_id=None, life=LIFETIME)


def narrow_token(actor: Actor, new: NewToken, seed: bytes) -> IssuedToken:
    """Raises: Forbidden for more than the caller's own token may do; ValidationFailed for a store that is none;
    Unauthenticated where the caller's token was revoked meanwhile; Conflict where too many are in force."""
    if more := set(new.scopes) - actor.scopes:
        raise Forbidden(f"the token lacks the scope {', '.join(sorted(more))}", code="insufficient_scope")
    store_id = new.store_id or actor.store_id
    if actor.store_id is not None and store_id != actor.store_id:
        raise Forbidden("the token is bound to another store", code="wrong_store")
    # A new password revokes under this lock: it either sees the token issued here or was seen here.
    lock_user(actor.user_id)
    if db.session.get_one(Token, actor.token_id).revoked_at is not None:
        raise Unauthenticated("the token has been revoked")
    if store_id and not _is_store(store_id):
        raise ValidationFailed.of("#/store_id", "there is no such store", code="unknown_store")
    if _count_live(actor.user_id) >= MAX_TOKENS:
        raise _too_many()
    return _issue(
        actor.user_id,
        seed,
        name=new.name,
        scopes=tuple(scope for scope in SCOPES if scope in new.scopes),
        store_id=store_id,
        life=timedelta(seconds=new.expires_in),
        ends_by=actor.expires_at,
    )


def get_token(actor: Actor, token_id: UUID) -> Token:
    """One of the caller's tokens that are in force, locked; to a token bound to a store, only those of that store
    exist. Raises: NotFound."""
    # In one order, so that of two tokens that revoke each other the second waits, and is then revoked itself.
    lock_user(actor.user_id)
    conditions = [Token.id == token_id, Token.user_id == actor.user_id]
    conditions += [Token.revoked_at.is_(None), Token.expires_at > func.now()]
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
    tell_cells(token.user_id)


def revoke_tokens(user_id: UUID, *, but: UUID | None = None) -> None:
    """Revoke all of a user's tokens, `but` one. The user's row must be locked."""
    _revoke(_REVOKE, {"user_id": user_id, "but": but})


def delete_expired_tokens() -> int:
    """Delete tokens that have opened nothing since yesterday. Part of the caller's transaction(). Returns: how many; 0
    means that none are left."""
    found = db.session.execute(
        select(Token.id, Token.user_id, Token.token_hash)
        .where(Token.expires_at < func.now() - timedelta(days=1))
        .order_by(Token.expires_at)
        .limit(_MOST)
        .with_for_update(skip_locked=True)
    ).all()
    if found:
        gone = delete(Token).where(Token.id.in_([token.id for token in found]))
        db.session.execute(gone.execution_options(synchronize_session=False))
    for token in found:
        touch(f"user:{token.user_id}:tokens", token_tag(token.token_hash))
    return len(found)


def _is_store(store_id: UUID) -> bool:
    return any(fetch_row(find, {"store_id": store_id}) for find in (_KEEP_STORE, _OF_CELL))


def _count_live(user_id: UUID) -> int:
    (live,) = fetch_row(_LIVE, {"user_id": user_id}) or (0,)
    return int(live)


def _revoke(statement: str, values: dict[str, Any]) -> int:
    """Returns: how many were revoked."""
    (hashes,) = fetch_row(statement, values) or ([],)
    touch(f"user:{values['user_id']}:tokens", *(token_tag(bytes.fromhex(token_hash)) for token_hash in hashes))
    if hashes:
        tell_cells(values["user_id"])
    return len(hashes)


def _issue(
    user_id: UUID,
    seed: bytes,
    *,
    name: str,
    scopes: tuple[Scope, ...],
    store_id: UUID | None,
    life: timedelta,
    ends_by: datetime | None = None,
) -> IssuedToken:
    issued = IssuedToken(new_id(), user_id)
    row = {
        "id": issued.id,
        "user_id": user_id,
        "store_id": store_id,
        "name": name,
        "token_hash": hash_token(write_token(seed, issued.id)),
        "scopes": list(scopes),
        "life": life,
        "ends_by": ends_by,
    }
    run_later(_INSERT, row)
    touch(f"user:{user_id}:tokens")
    return issued


def _too_many() -> Conflict:
    return Conflict(
        f"{MAX_TOKENS} tokens are in force, which is as many as there may be: revoke some", code="too_many_tokens"
    )
