"""In a cell: the rows of users and tokens that the directory has told of, which other rows refer to.

They are written from what it says with a request, and from what it tells by itself when something has changed. An
account's row counts its changes (`version`), so what is older never takes the place of what is newer; a token that was
revoked stays so. Nothing here is a reason to let anybody in: each request has to be asserted by itself.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct
from msgspec.structs import asdict

from dues.accounts.passwords import NOBODY
from dues.accounts.tokens import hash_token
from dues.accounts.users import touch_name
from dues.cells.assertion import DefaultAddress, Facts, Grant, Person
from dues.postgres import fetch_row, run_later, transaction, unit_of_work
from dues.reads.tags import token_tag, touch

_STANDING = """
    select u.version, a.id::text || ' ' || a.version, exists (select from api_tokens t where t.id = %(token_id)s)
    from users u left join addresses a on a.user_id = u.id and a.is_default where u.id = %(id)s
"""
_ADD = """
    insert into users(id, email, email_normal, name, password_hash, email_verified_at, deleted_at, version, created_at,
        copy_of)
    values (%(id)s, %(email)s, %(email_normal)s, %(name)s, %(password_hash)s, %(email_verified_at)s, %(deleted_at)s,
        %(version)s, %(created_at)s, %(id)s)
    on conflict (id) do nothing returning id
"""
_LOCK = "select version, name from users where id = %(id)s for no key update"
_CHANGE = """
    update users set email = %(email)s, email_normal = %(email_normal)s, name = %(name)s, copy_of = %(id)s,
        email_verified_at = %(email_verified_at)s, deleted_at = %(deleted_at)s, version = %(version)s,
        updated_at = now()
    where id = %(id)s
"""
_NO_ADDRESS = "delete from addresses where user_id = %(user_id)s"
_ADDRESS = """
    insert into addresses(user_id, id, label, line1, line2, city, region, postal_code, country, company, tax_id,
        version, is_default)
    values (%(user_id)s, %(id)s, %(label)s, %(line1)s, %(line2)s, %(city)s, %(region)s, %(postal_code)s, %(country)s,
        %(company)s, %(tax_id)s, %(version)s, true)
"""
_ADD_GRANT = """
    insert into api_tokens(id, user_id, store_id, name, token_hash, scopes, expires_at)
    values (%(id)s, %(user_id)s, %(store_id)s, 'copy', %(token_hash)s, %(scopes)s, %(expires_at)s)
    on conflict do nothing
"""
# Locked as a revocation locks it: whoever is about to commit what the token allowed is waited for.
_LOCK_GRANT = "select from api_tokens where id = %(id)s for update"
_REVOKE = "update api_tokens set revoked_at = now(), updated_at = now() where id = %(id)s and revoked_at is null"


class Revoked(Struct):
    """A token that was revoked before it had expired."""

    id: UUID
    token_hash: str
    scopes: list[str]
    store_id: UUID | None
    expires_at: datetime


class News(Struct):
    """What the directory tells of an account that has changed: itself, and its tokens that were revoked."""

    person: Person
    revoked: list[Revoked]


def write_facts(facts: Facts, token: str) -> None:
    """See that the rows of a request's caller are there, and as they are told. Outside of any transaction()."""
    is_missing = not _is_as_told(facts.person, facts.token.id)
    if not is_missing and (facts.other is None or _is_as_told(facts.other)):
        return
    with transaction():
        unit_of_work()
        # In one order, so that two requests that name the same two users do not wait for one another.
        for person in sorted(filter(None, (facts.person, facts.other)), key=lambda each: each.id):
            _write_person(person)
        _write_token(facts.person.id, facts.token, hash_token(token))


def write_news(news: News) -> None:
    """Part of the caller's transaction()."""
    unit_of_work()
    _write_person(news.person)
    user_id = news.person.id
    for token in news.revoked:
        token_hash = bytes.fromhex(token.token_hash)
        # Also where it has never come here: a request with it may be on its way.
        _write_token(user_id, Grant(token.id, token.scopes, token.store_id, token.expires_at), token_hash)
        run_later(_LOCK_GRANT, {"id": token.id})
        run_later(_REVOKE, {"id": token.id})
    if news.revoked:
        touch(f"user:{user_id}:tokens", *(token_tag(bytes.fromhex(token.token_hash)) for token in news.revoked))


def _is_as_told(person: Person, token_id: UUID | None = None) -> bool:
    row = fetch_row(_STANDING, {"id": person.id, "token_id": token_id})
    if row is None:
        return False
    version, address, has_token = row
    is_newer = version > person.version
    is_same = version == person.version and address == _standing(person, address)
    return (is_newer or is_same) and (has_token or token_id is None)


def _standing(person: Person, unknown: str | None) -> str | None:
    """Which address is the default, in which version; as it is, where nothing is told of it."""
    if person.address is UNSET:
        return unknown
    return f"{person.address.id} {person.address.version}" if person.address else None


def _write_person(person: Person) -> None:
    told = {name: value for name, value in asdict(person).items() if name != "address"}
    is_new = fetch_row(_ADD, told | {"password_hash": NOBODY}) is not None
    version, name = fetch_row(_LOCK, told) or (0, "")
    if version > person.version:
        return
    if not is_new and version < person.version:
        run_later(_CHANGE, told)
        if name != person.name:
            touch_name(person.id)
    if person.address is not UNSET:
        _write_address(person.id, person.address)
    touch(f"user:{person.id}")


def _write_address(user_id: UUID, address: DefaultAddress | None) -> None:
    run_later(_NO_ADDRESS, {"user_id": user_id})
    if address:
        run_later(_ADDRESS, {"user_id": user_id, **asdict(address)})


def _write_token(user_id: UUID, token: Grant, token_hash: bytes) -> None:
    values: dict[str, Any] = {**asdict(token), "user_id": user_id, "token_hash": token_hash}
    run_later(_ADD_GRANT, values | {"scopes": list[str](token.scopes)})
    touch(token_tag(token_hash), f"user:{user_id}:tokens")
