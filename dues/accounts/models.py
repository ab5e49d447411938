"""Tables of people: users, addresses, tokens."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, Text
from sqlalchemy.dialects.postgresql import ARRAY, CHAR
from sqlalchemy.orm import Mapped, mapped_column

from dues.errors import InvalidValue
from dues.mail.address import normal_address
from dues.postgres import Model, Versioned, db, fetch_row

_BY_EMAIL = """
    select id, password_hash, email, email_verified_at is not null from users
    where email_normal in (lower(%(email)s), %(mailbox)s) and deleted_at is null
    order by email_normal = lower(%(email)s) desc limit 1
"""


class User(Versioned, Model):
    """`email` is as it was typed; `email_normal`, which is unique, is the one form of all its spellings
    (dues/mail/address.py). copy_of: in a cell, the id of the account in the directory that the row is a copy of."""

    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str]
    email_normal: Mapped[str]
    name: Mapped[str]
    password_hash: Mapped[str]
    email_verified_at: Mapped[datetime | None]
    deleted_at: Mapped[datetime | None]
    copy_of: Mapped[UUID] = mapped_column(default=UUID(int=0))


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
    company: Mapped[str | None]
    tax_id: Mapped[str | None]
    is_default: Mapped[bool]


class Token(Versioned, Model):
    __tablename__ = "api_tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    store_id: Mapped[UUID | None]
    name: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scopes: Mapped[list[str]] = mapped_column(ARRAY(Text))
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


def lock_user(user_id: UUID) -> User:
    """The user, locked for this transaction against other changes of their row, tokens and addresses; rows
    that merely refer to it (a payment, say) can be written meanwhile. Raises: NoResultFound."""
    return db.session.get_one(User, user_id, with_for_update={"key_share": True})


class Found(NamedTuple):
    """The owner of a mail address; `email` is the address as its owner typed it."""

    id: UUID
    password_hash: str
    email: str
    is_verified: bool


def find_user(email: str) -> Found | None:
    """The user with this mail address, in whichever spelling.

    Where several accounts have had one mailbox since before that was refused (migrations/versions/0006), all but one of
    them are found by their own spelling alone, which comes first.
    """
    row = fetch_row(_BY_EMAIL, {"email": email, "mailbox": mailbox_of(email)})
    return Found(*row) if row else None


def mailbox_of(email: str) -> str:
    """The one form of all spellings of an address; of what is no address, whatever stands for it alone."""
    try:
        return normal_address(email)
    except InvalidValue:
        return email.lower()
