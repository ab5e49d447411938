"""What a caller may do: the token and the role in a store, read together in one statement, and kept in the cache.

support reads payments, subscriptions and customers; a manager also handles packages, refunds, reports, posts and
webhooks; an owner also the staff and the store itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from uuid import UUID

import psycopg2
import ujson
from sqlalchemy.exc import DBAPIError

from dues.accounts.actor import Actor
from dues.accounts.tokens import hash_token
from dues.errors import Forbidden, Misdirected, NotFound, Unauthenticated, Unavailable
from dues.postgres import fetch_row, run_later
from dues.reads.freshness import Computed, Result, Validator, read
from dues.reads.tags import token_tag
from dues.settings import settings

ROLES = ("support", "manager", "owner")

# The URL of the Dues that has the store now; empty while nobody has it yet.
_MOVED = """
    select case m.state when 'gone' then m.address else '' end from store_moves m
    where m.store_id = %(store_id)s and m.state in ('switching', 'gone')
"""
# A store of which nothing is shown here while its move to another Dues is committed there.
_LEAVING = "select from store_moves m where m.store_id = s.id and m.state = 'switching'"
_ACCESS = f"""
select json_build_object('token', t.id, 'user', t.user_id, 'scopes', t.scopes, 'store', t.store_id,
                         'expires_at', t.expires_at, 'store_exists', s.id is not null,
                         'moved_to', case when s.id is null then ({_MOVED}) end, 'role', r.role,
                         'test', coalesce(s.test, false),
                         'currencies', array[s.currency] || s.currencies,
                         'gateway', (select json_build_object('type', g.type, 'id', g.id) from gateway_accounts g
                             where g.store_id = s.id and g.replaced_at is null))::text,
       pg_current_snapshot()::text, extract(epoch from t.expires_at - now())::float8
from api_tokens t
join users u on u.id = t.user_id and u.deleted_at is null
left join stores s on s.id = %(store_id)s and not exists ({_LEAVING})
left join store_staff r on r.store_id = s.id and r.user_id = t.user_id
where t.token_hash = %(token_hash)s and t.revoked_at is null and t.expires_at > now()
"""
# What a release before has kept of other members is not read as if it had these.
_SHAPE = sha256(_ACCESS.encode()).hexdigest()[:8]
_IN_FORCE = """
    select from api_tokens where id = %(token_id)s and revoked_at is null and expires_at > now() for key share
"""
_ON_STAFF = """
    select from store_staff where store_id = %(store_id)s and user_id = %(user_id)s and role = any(%(roles)s)
    for key share
"""
_HOLD_TOKEN = f"""
    with token as materialized ({_IN_FORCE}) select refuse_unless(exists (select from token), 'DU401')
"""
_HOLD_ROLE = f"""
    with token as materialized ({_IN_FORCE}), staff as materialized ({_ON_STAFF})
    select refuse_unless(exists (select from token), 'DU401'), refuse_unless(exists (select from staff), 'DU403')
"""
_STORE = f"""
    select pg_current_snapshot()::text from stores s where s.id = %(store_id)s and not exists ({_LEAVING})
"""


@dataclass(frozen=True)
class Access:
    """An actor (None: no token was sent) and, where a store is concerned, whether it exists and the role there.

    `store_id`: that store; a right in it is none in another. `moved_to`: the URL of the Dues that has it now, where it
    is not here any more; empty while it is on its way. `currencies`: those that it takes; `gateway` and
    `gateway_account_id`: what it has chosen to charge with, if anything. `validators` are how to find out later whether
    this still holds, until `expires_at` (of `time.monotonic()`) at most; None: it may not be kept.
    """

    actor: Actor | None
    store_exists: bool = False
    role: str | None = None
    validators: tuple[Validator, ...] | None = ()
    expires_at: float = float("inf")
    store_id: UUID | None = None
    is_test_store: bool = False
    currencies: frozenset[str] = frozenset()
    gateway: str | None = None
    gateway_account_id: UUID | None = None
    moved_to: str | None = None

    @property
    def is_staff(self) -> bool:
        return self.role is not None

    def has_role(self, least: str) -> bool:
        return self.role is not None and ROLES.index(self.role) >= ROLES.index(least)

    def require_role(self, least: str) -> None:
        """Raises: Forbidden for a caller with less than this role in the store."""
        if not self.has_role(least):
            raise Forbidden(f"this is kept for a store's {least}s" + ("" if least == "owner" else " and those above"))


def access_of(token: str | None, store_id: UUID | None) -> Access:
    """What the holder of `token` may do: from the cache, else in one statement.

    Raises: Unauthenticated for a token that is unknown, expired or revoked.
    """
    if token is None:
        return _visitor(store_id) if store_id else Access(None)
    token_hash = hash_token(token)

    def compute() -> Computed:
        row = fetch_row(_ACCESS, {"token_hash": token_hash, "store_id": store_id and str(store_id)})
        if row is None:
            raise _bad_token()
        document, snapshot, life_s = row
        return Computed(document.encode(), snapshot, life_s)

    tags = (token_tag(token_hash), *((f"store:{store_id}",) if store_id else ()))
    result = read(f"access {_SHAPE} {token_hash.hex()} {store_id}", tags, compute)
    # PostgreSQL's clock says when it runs out, and what is left of it is counted down: in Redis, and here.
    return _kept(_parse(result.payload), result, store_id)


@lru_cache(maxsize=4096)
def _parse(document: bytes) -> Access:
    found = ujson.loads(document)
    bound_to, expires_at = found["store"] and UUID(found["store"]), datetime.fromisoformat(found["expires_at"])
    actor = Actor(UUID(found["user"]), UUID(found["token"]), frozenset(found["scopes"]), bound_to, expires_at)
    currencies = frozenset(found["currencies"] or ())
    gateway = found["gateway"] or {}
    return Access(
        actor,
        found["store_exists"],
        found["role"],
        is_test_store=found["test"],
        currencies=currencies,
        gateway=gateway.get("type"),
        gateway_account_id=UUID(gateway["id"]) if gateway else None,
        moved_to=found["moved_to"],
    )


def _visitor(store_id: UUID) -> Access:
    """The access of a caller without a token: to what everybody sees."""

    def compute() -> Computed:
        row = fetch_row(_STORE, {"store_id": str(store_id)})
        if row is None:
            raise NotFound("there is no such store")
        return Computed(b"", row[0])

    try:
        result = read(f"store {store_id}", (f"store:{store_id}",), compute)
    except NotFound:
        row = fetch_row(_MOVED, {"store_id": str(store_id)})
        return Access(None, validators=None, store_id=store_id, moved_to=row[0] if row else None)
    return _kept(Access(None, store_exists=True), result, store_id)


def _kept(access: Access, result: Result, store_id: UUID | None) -> Access:
    validators = (result.validator,) if result.validator else None
    return replace(access, validators=validators, expires_at=result.expires_at, store_id=store_id)


def _bad_token() -> Unauthenticated:
    return Unauthenticated("the token is unknown, expired or revoked")


def hold(access: Access) -> None:
    """Have the caller's right last until the present unit of work is committed, or refuse to commit it: of a right that
    is being taken away at the same time, either that or this comes first. It costs no round trip, since it goes out
    with the next statement. To be called last thing, so that a transaction that takes a right away hardly waits;
    earlier only by a write that may take away the caller's own.

    A transaction that takes a right away locks its row `for update`. The refusal is raised by `refusing_lost_rights()`.
    """
    if access.actor is None:
        return
    values: dict[str, object] = {"token_id": access.actor.token_id}
    if access.role is None:
        run_later(_HOLD_TOKEN, values)
    else:
        values |= {"store_id": access.store_id, "user_id": access.actor.user_id}
        run_later(_HOLD_ROLE, values | {"roles": list(ROLES[ROLES.index(access.role) :])})


@contextmanager
def refusing_lost_rights() -> Iterator[None]:
    """Around a transaction() that holds a right. Raises: Unauthenticated or Forbidden where it was taken away."""
    try:
        yield
    except (psycopg2.Error, DBAPIError) as error:
        match getattr(error.orig if isinstance(error, DBAPIError) else error, "pgcode", None):
            case "DU401":
                raise _bad_token() from None
            case "DU403":
                raise Forbidden("the role in this store was taken away meanwhile") from None
        raise


def moved_to(store_id: UUID) -> str | None:
    """As `Access` has it."""
    row = fetch_row(_MOVED, {"store_id": store_id})
    return row[0] if row else None


def require_not_moved(address: str | None) -> None:
    """With what `moved_to()` says. Raises: Misdirected where another Dues has the store, and Unavailable where that is
    about to, or where it is another cell of this name, to which the next request will go."""
    if address and address != settings().public_url:
        raise Misdirected(f"this store has moved to {address}", code="store_moved", address=address)
    if address is not None:
        raise Unavailable("this store is being moved to another server")


def require_store(access: Access) -> None:
    """Raises: NotFound where the store does not exist; Misdirected; Unavailable."""
    require_not_moved(access.moved_to)
    if not access.store_exists:
        raise NotFound("there is no such store")
