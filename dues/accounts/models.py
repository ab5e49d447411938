"""Tables of people: users, addresses, tokens."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY, CHAR
from sqlalchemy.orm import Mapped, mapped_column

from dues.postgres import Model, Versioned, db


class User(Versioned, Model):
    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
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
