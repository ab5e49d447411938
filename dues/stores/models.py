"""Tables of stores and their staff."""

from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.dialects.postgresql import CHAR
from sqlalchemy.orm import Mapped, mapped_column

from dues.accounts.models import User
from dues.postgres import Model, Versioned


class Store(Versioned, Model):
    __tablename__ = "stores"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    name: Mapped[str]
    slug: Mapped[str]
    currency: Mapped[str] = mapped_column(CHAR(3))


class Staff(Versioned, Model):
    __tablename__ = "store_staff"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    id: Mapped[UUID]
    role: Mapped[str]
