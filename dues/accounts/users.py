"""Writing users: signed up, changed. `check_…` comes before the transaction, since hashing a password takes long; every
other function is part of its caller's."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from dues.accounts.codes import forget_codes
from dues.accounts.fields import Email, Name, Password, TypedPassword
from dues.accounts.models import User
from dues.accounts.password_rules import weakness
from dues.accounts.passwords import NOBODY, hash_password
from dues.accounts.telling import tell_cells
from dues.accounts.tokens import revoke_tokens, try_password
from dues.errors import Conflict, Outdated, ValidationFailed
from dues.ids import new_id
from dues.jobs import enqueue, kinds
from dues.jobs.outbox import JSON
from dues.mail.address import normal_address
from dues.postgres import db, fetch_row
from dues.postgres.constraints import take_turns
from dues.reads.tags import record_change, touch

ShownIn = Callable[[UUID], Iterable[str]]
Notice = Literal["email-changed", "password-changed"]

_shown_in: list[ShownIn] = []

_CURRENT = "#/current_password"

_PRESENT = "select email, name, password_hash from users where id = %(user_id)s"


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
    """What users may change of themselves; a new e-mail or password needs the present password."""

    name: Name | UnsetType = UNSET
    email: Email | UnsetType = UNSET
    password: Password | UnsetType = UNSET
    current_password: TypedPassword | UnsetType = UNSET


@dataclass(frozen=True)
class CheckedChange:
    """What was worked out about a change before its transaction: the hash of the new password, and the hash that the
    present password was found to fit; None where there is no such password."""

    new_hash: str | None = None
    present_hash: str | None = None


def check_new_user(new: NewUser) -> str:
    """The hash of the password. Before the transaction. Raises: ValidationFailed for one that is too weak."""
    refuse_weak(new.password, new.email, new.name)
    return hash_password(new.password)


def sign_up(new: NewUser, password_hash: str) -> UUID:
    """Returns: the new user's id. Raises: Conflict where the address, in whichever spelling, has an account."""
    user_id, mailbox = new_id(), normal_address(new.email)
    take_turns("users.email_normal", mailbox)
    values = {
        "id": user_id,
        "email": new.email,
        "email_normal": mailbox,
        "name": new.name,
        "password_hash": password_hash,
    }
    if db.session.scalar(insert(User).values(values).on_conflict_do_nothing().returning(User.id)) is None:
        raise _taken()
    touch(f"user:{user_id}")
    return user_id


def check_change(user_id: UUID, change: UserChange) -> CheckedChange:
    """Check the present password where the change needs it or names it. Before the transaction.

    That counts as a log-in: with a stolen token one guesses no faster than without.
    Raises: ValidationFailed where it is missing or wrong, or the new one too weak; TooManyRequests; Unavailable.
    """
    email, name, present_hash = fetch_row(_PRESENT, {"user_id": user_id}) or ("", "", NOBODY)
    if change.password is not UNSET:
        refuse_weak(change.password, email, name, change.email or "", change.name or "")
    if change.current_password is UNSET:
        if change.password is not UNSET or change.email not in (UNSET, email):
            raise ValidationFailed.of(_CURRENT, "is required for a new e-mail or password", code="required")
        return CheckedChange()
    if not try_password(email, change.current_password, present_hash):
        raise ValidationFailed.of(_CURRENT, "is not the present password", code="wrong")
    new_hash = None if change.password is UNSET else hash_password(change.password)
    return CheckedChange(new_hash, present_hash)


def change_user(user: User, change: UserChange, checked: CheckedChange, *, token_id: UUID) -> None:
    """Change a user, whose row is locked. A new password revokes all tokens but `token_id`, the one this is done with;
    a new e-mail is not verified. The address that the account had is told of either.

    Raises: Outdated where e-mail or password was changed since they were checked; Conflict where the address is taken.
    """
    if checked.present_hash not in (None, user.password_hash):
        raise Outdated
    # Before a change of the e-mail, whose former address is to be told.
    if checked.new_hash:
        set_password(user, checked.new_hash)
        revoke_tokens(user.id, but=token_id)
    if change.email not in (UNSET, user.email):
        assert isinstance(change.email, str)
        if checked.present_hash is None:
            raise Outdated
        _change_email(user, change.email)
    if change.name not in (UNSET, user.name):
        assert isinstance(change.name, str)
        user.name = change.name
        touch_name(user.id)
    touch(f"user:{user.id}")
    tell_cells(user.id)


def touch_name(user_id: UUID) -> None:
    """A user is to have another name from the commit on: all that shows it is out of date."""
    _wait_for_referrers(user_id)
    touch(*(tag for tags in _shown_in for tag in tags(user_id)))
    record_change(user_id)


def set_password(user: User, password_hash: str) -> None:
    """Give a user, whose row is locked, another password; the user is told by mail."""
    user.password_hash = password_hash
    forget_codes(user.id)
    _tell(user, "password-changed")


def refuse_weak(password: str, *personal: str) -> None:
    """Raises: ValidationFailed for a password that is tried first."""
    if found := weakness(password, *personal):
        raise ValidationFailed.of("#/password", found, code="weak_password")


def _change_email(user: User, email: str) -> None:
    mailbox = normal_address(email)
    take_turns("users.email_normal", mailbox)
    if db.session.scalar(select(User.id).where(User.email_normal == mailbox, User.id != user.id)):
        raise _taken()
    forget_codes(user.id)
    if mailbox != user.email_normal:
        _tell(user, "email-changed")
        user.email_verified_at = None
    user.email, user.email_normal = email, mailbox


def _tell(user: User, notice: Notice) -> None:
    """Have the user's present address told of something."""
    told: dict[str, JSON] = {"notice": notice, "email": user.email, "is_verified": user.email_verified_at is not None}
    enqueue(kinds.ACCOUNT_NOTICE, told, owner_id=user.id)


def _wait_for_referrers(user_id: UUID) -> None:
    """Let transactions end that are writing rows which refer to the user, and begin no more until this one ends: a row
    that cannot be seen yet would show the old name for ever. (Each locks the user's key, by its foreign key.)"""
    db.session.execute(select(User.id).where(User.id == user_id).with_for_update())


def _taken() -> Conflict:
    return Conflict("this e-mail has an account already", code="email_taken")
