"""Tables of stores, their staff, and the clocks of test stores."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, LargeBinary, SmallInteger
from sqlalchemy.dialects.postgresql import ARRAY, CHAR, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dues.accounts.models import User
from dues.postgres import Model, Versioned


class Store(Versioned, Model):
    """It takes `currency`, and those in `currencies`. `timezone` is an IANA name. `dunning` says what becomes of a
    subscription whose payment was tried in vain, and `grace_days` for how long its member keeps access meanwhile. What
    it prints about itself is in seller.py."""

    __tablename__ = "stores"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    owner_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    name: Mapped[str]
    slug: Mapped[str]
    currency: Mapped[str] = mapped_column(CHAR(3))
    currencies: Mapped[list[str]] = mapped_column(ARRAY(CHAR(3)), default=list)
    timezone: Mapped[str] = mapped_column(default="UTC")
    test: Mapped[bool] = mapped_column(default=False)
    dunning: Mapped[str] = mapped_column(default="cancel")
    grace_days: Mapped[int] = mapped_column(SmallInteger, default=7)
    legal_name: Mapped[str | None]
    address: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    country: Mapped[str | None] = mapped_column(CHAR(2))
    tax_id: Mapped[str | None]
    contact_email: Mapped[str | None]
    website: Mapped[str | None]
    invoice_prefix: Mapped[str | None]
    invoice_note: Mapped[str | None]
    notify_new_payment: Mapped[bool] = mapped_column(default=False)
    language: Mapped[str] = mapped_column(default="en")
    paper: Mapped[str | None]
    tax_rate: Mapped[int] = mapped_column(default=0)
    logo_sha256: Mapped[str | None]

    def takes(self, currency: str) -> bool:
        return currency == self.currency or currency in self.currencies


class Logo(Model):
    """A store's logo, as PNG; `logo_sha256` of the store is its digest."""

    __tablename__ = "store_logos"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    content: Mapped[bytes] = mapped_column(LargeBinary)


class Staff(Versioned, Model):
    __tablename__ = "store_staff"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id), primary_key=True)
    id: Mapped[UUID]
    role: Mapped[str]


class Clock(Versioned, Model):
    """What a test store's clock shows; `advancing_to` is set while `job_id` moves it there."""

    __tablename__ = "store_clocks"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    moment: Mapped[datetime]
    advancing_to: Mapped[datetime | None]
    job_id: Mapped[UUID | None]
