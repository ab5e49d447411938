"""The table of packages."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Integer, SmallInteger
from sqlalchemy.dialects.postgresql import CHAR
from sqlalchemy.orm import Mapped, mapped_column

from dues.postgres import Model, Versioned
from dues.stores.models import Store

INTERVALS = ("once", "week", "month", "year")


class Package(Versioned, Model):
    __tablename__ = "packages"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str]
    description: Mapped[str]
    amount: Mapped[int]
    currency: Mapped[str] = mapped_column(CHAR(3))
    interval: Mapped[str]
    interval_count: Mapped[int] = mapped_column(SmallInteger, default=1)
    trial_days: Mapped[int] = mapped_column(Integer)
    archived_at: Mapped[datetime | None]
