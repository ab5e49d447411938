"""Codes that are mailed to an e-mail address, and prove that whoever sends one back reads what arrives there.

A code is 32 bytes in base64url, made by the job that mails it: from SECRET_KEY and the job's id, so that an attempt
that is repeated mails the same one. The database has only its SHA-256. It works once, for as long as its purpose says,
and only while the address is still the account's.
"""

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Annotated, Literal
from uuid import UUID

from msgspec import Meta

from dues.accounts.models import User, lock_user
from dues.errors import ValidationFailed
from dues.postgres import fetch_row, run_later, unit_of_work
from dues.settings import settings

Purpose = Literal["verify-email", "reset-password"]
LIFETIMES: dict[Purpose, timedelta] = {"verify-email": timedelta(days=1), "reset-password": timedelta(hours=1)}

Code = Annotated[str, Meta(min_length=1, max_length=100, description="the code of a link that was mailed")]

_BATCH = 1000

_KEEP = """
    insert into account_codes(id, user_id, purpose, email, code_hash, expires_at)
    values (%(id)s, %(user_id)s, %(purpose)s, %(email)s, %(code_hash)s, now() + %(lifetime)s)
    on conflict do nothing
"""
_FIND = """
    select u.id, u.email, u.name
    from account_codes c join users u on u.id = c.user_id and u.deleted_at is null
    where c.code_hash = %(code_hash)s and c.purpose = %(purpose)s and c.expires_at > now() and c.email = u.email
"""
_USE = """
    delete from account_codes c using users u
    where c.code_hash = %(code_hash)s and u.id = c.user_id and c.email = u.email returning c.id
"""
_FORGET = "delete from account_codes where user_id = %(user_id)s"
_DELETE_EXPIRED = """
    with old as (
        select id from account_codes where expires_at <= now() order by expires_at limit %(most)s
        for update skip locked),
    gone as (delete from account_codes c using old where c.id = old.id returning 1)
    select count(*) from gone
"""


@dataclass(frozen=True)
class Holder:
    """Whose code it is."""

    user_id: UUID
    email: str
    name: str


def issue_code(job_id: UUID, purpose: Purpose, user_id: UUID, email: str) -> str:
    """A code for the account's present address, to be mailed there by this job. Part of the caller's transaction()."""
    unit_of_work()
    secret = hmac.digest(settings().secret_key.encode(), f"code\0{purpose}\0{job_id}".encode(), sha256)
    code = urlsafe_b64encode(secret).decode().rstrip("=")
    row = {"id": job_id, "user_id": user_id, "purpose": purpose, "email": email, "lifetime": LIFETIMES[purpose]}
    run_later(_KEEP, row | {"code_hash": _hash(code)})
    return code


def find_code(code: str, purpose: Purpose) -> Holder:
    """Whose code it is. Raises: ValidationFailed where it is unknown, used, or expired."""
    row = fetch_row(_FIND, {"code_hash": _hash(code), "purpose": purpose})
    if row is None:
        raise _refused()
    return Holder(*row)


def use_code(code: str, purpose: Purpose) -> tuple[User, Holder]:
    """The user whose code it is, locked; the code works no more. Part of the caller's transaction().

    Raises: ValidationFailed, as `find_code` does.
    """
    holder = find_code(code, purpose)
    # The user is locked first, as by a change of the e-mail or the password, which ends all codes.
    user = lock_user(holder.user_id)
    if fetch_row(_USE, {"code_hash": _hash(code)}) is None:
        raise _refused()
    return user, holder


def forget_codes(user_id: UUID) -> None:
    """No code of this user works any more. Part of the caller's transaction()."""
    run_later(_FORGET, {"user_id": user_id})


def delete_expired_codes() -> int:
    """Delete codes that have expired. Part of the caller's transaction(). Returns: how many; 0 means that none are
    left."""
    unit_of_work()
    (deleted,) = fetch_row(_DELETE_EXPIRED, {"most": _BATCH}) or (0,)
    return int(deleted)


def _refused() -> ValidationFailed:
    return ValidationFailed.of("#/code", "is unknown, used already, or expired", code="invalid_code")


def _hash(code: str) -> bytes:
    return sha256(code.encode()).digest()
