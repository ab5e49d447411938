"""The table of reports."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from dues.accounts.models import User
from dues.postgres import Model, Versioned
from dues.stores.models import Store


class Report(Versioned, Model):
    """A report that was asked for, and once it has succeeded, the file that it became.

    It covers `range_from` (inclusive) to `range_to` (exclusive); `timezone`, the store's when it was asked for, decides
    which month a time is in. `bom` asks for a byte order mark. `rows` are those of data, headings not counted;
    `sha256` is the file's, in hexadecimal; `file_key` is its name in the file store.
    """

    __tablename__ = "reports"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    requested_by: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    kind: Mapped[str]
    format: Mapped[str]
    range_from: Mapped[datetime]
    range_to: Mapped[datetime]
    timezone: Mapped[str] = mapped_column(default="UTC")
    bom: Mapped[bool] = mapped_column(default=False)
    status: Mapped[str] = mapped_column(default="pending")
    file_key: Mapped[str | None]
    rows: Mapped[int | None]
    bytes: Mapped[int | None]
    sha256: Mapped[str | None]
    job_id: Mapped[UUID | None]
