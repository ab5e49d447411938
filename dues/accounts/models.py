"""Tables of people: users, addresses, tokens."""

from contextlib import suppress
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, Row, Text, func, select
from sqlalchemy.dialects.postgresql import ARRAY, CHAR
from sqlalchemy.orm import Mapped, mapped_column

from dues.errors import InvalidValue
from dues.mail.address import normal_address
from dues.postgres import Model, Versioned, db


class User(Versioned, Model):
    """`email` is as it was typed; `email_normal`, which is unique, is the one form of all its spellings
    (dues/mail/address.py)."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    email_normal: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str]
    email_verified_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]


class Address(Versioned, Model):
    __tablename__ = "addresses"

    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    label: Mapped[str]
    line1: Mapped[str]
    line2: Mapped[str | None]
    city: Mapped[str]
    region: Mapped[str | None]
    postal_code: Mapped[str | None]
    country: Mapped[str] = mapped_column(CHAR(2))
    is_default: Mapped[bool]


class Token(Versioned, Model):
    __tablename__ = "api_tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    store_id: Mapped[UUID | None] = mapped_column(ForeignKey("stores.id"))
    name: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


def lock_user(user_id: UUID) -> User:
    """The user, locked for this transaction against other changes of him, his tokens and addresses; rows that merely
    refer to him (a payment, say) can be written meanwhile. Raises: NoResultFound."""
    return db.session.get_one(User, user_id, with_for_update={"key_share": True})


def find_user(email: str) -> "Row[UUID, str] | None":
    """`id` and `password_hash` of the user with this mail address, in whichever spelling.

    Where several accounts have had one mailbox since before that was refused (migrations/versions/0006), all but one of
    them are found by their own spelling alone, which comes first.
    """
    spelled = func.lower(email)
    forms: list[Any] = [spelled]
    with suppress(InvalidValue):
        forms.append(normal_address(email))
    return db.session.execute(
        select(User.id, User.password_hash)
        .where(User.email_normal.in_(forms), User.deleted_at.is_(None))
        .order_by((User.email_normal == spelled).desc())
        .limit(1)
    ).first()
