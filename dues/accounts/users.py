"""Writing users: signed up, changed. Each function is part of its caller's transaction."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import select

from dues.accounts.fields import Email, Name, Password, TypedPassword
from dues.accounts.models import User
from dues.accounts.passwords import hash_password, is_password
from dues.accounts.tokens import revoke_others
from dues.errors import Conflict, ValidationFailed
from dues.ids import new_id
from dues.mail.address import normal_address
from dues.postgres import db
from dues.postgres.constraints import on_violation
from dues.reads.tags import touch

ShownIn = Callable[[UUID], Iterable[str]]

_shown_in: list[ShownIn] = []


def shows_users(tags: ShownIn) -> ShownIn:
    """Register what else than `user:U` is out of date when a user's name changes: `tags(user_id)` names the answers
    of a slice above that embed it."""
    _shown_in.append(tags)
    return tags


class NewUser(Struct, forbid_unknown_fields=True):
    """Somebody who signs up."""

    email: Email
    name: Name
    password: Password


class UserChange(Struct, forbid_unknown_fields=True):
    """What a user may change of himself; a new password needs the present one."""

    name: Name | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    password: Password | UnsetType = UNSET
    current_password: TypedPassword | UnsetType = UNSET


def sign_up(new: NewUser) -> User:
    """Raises: Conflict where the address, in whichever spelling, has an account."""
    user = User(
        id=new_id(),
        email=new.email,
        email_normal=normal_address(new.email),
        name=new.name,
        password_hash=hash_password(new.password),
    )
    with _unless_email_taken():
        db.session.add(user)
    touch(f"user:{user.id}")
    return user


def change_user(user: User, change: UserChange, *, token_id: UUID) -> None:
    """A new password revokes all of the user's tokens but `token_id`, the one this is done with.

    Raises: ValidationFailed when the present password is missing or wrong; Conflict where the address is taken.
    """
    changed: dict[str, str] = {}
    if change.password is not UNSET:
        _require_password(user, change.current_password)
        changed["password_hash"] = hash_password(change.password)
        revoke_others(user.id, token_id)
    if change.email is not UNSET:
        changed |= {"email": change.email, "email_normal": normal_address(change.email)}
    if change.name is not UNSET and change.name != user.name:
        changed["name"] = change.name
        _wait_for_referrers(user.id)
        touch(*(tag for tags in _shown_in for tag in tags(user.id)))
    with _unless_email_taken():
        for column, value in changed.items():
            setattr(user, column, value)
    touch(f"user:{user.id}")


def _wait_for_referrers(user_id: UUID) -> None:
    """Let transactions end that are writing rows which refer to the user, and begin no more until this one ends: a row
    that cannot be seen yet would show the old name for ever. (Each locks the user's key, by its foreign key.)"""
    db.session.execute(select(User.id).where(User.id == user_id).with_for_update())


def _require_password(user: User, typed: str | UnsetType) -> None:
    if typed is UNSET:
        raise ValidationFailed.of("#/current_password", "is required for a new password", "required")
    if not is_password(typed, user.password_hash):
        raise ValidationFailed.of("#/current_password", "is not the present password", "wrong")


def _unless_email_taken() -> AbstractContextManager[None]:
    return on_violation("users_email_key", Conflict("this e-mail has an account already", code="email_taken"))
