"""Tables of issued documents and of how their sending went."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, LargeBinary
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dues.accounts.models import User
from dues.clock import now
from dues.postgres import Model, Versioned
from dues.stores.models import Store


class Document(Versioned, Model):
    """`subject_id` is what it was issued for: there is one document of a kind for each. `user_id` is to whom.

    `content` is the file, made once from `data`, of which `sha256` (hexadecimal) and `bytes` speak. The database
    refuses to change a document that has one, or to delete any.
    """

    __tablename__ = "documents"
    __table_args__ = (ForeignKeyConstraint(["store_id", "payment_id"], ["payments.store_id", "payments.id"]),)

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    subject_id: Mapped[UUID]
    number: Mapped[str]
    user_id: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    payment_id: Mapped[UUID | None]
    data: Mapped[dict[str, Any]] = mapped_column(JSONB)
    content: Mapped[bytes | None] = mapped_column(LargeBinary)
    sha256: Mapped[str | None]
    bytes: Mapped[int | None]


class DocumentDelivery(Model):
    """One sending of a document, by the job that does it."""

    __tablename__ = "document_deliveries"
    __table_args__ = (ForeignKeyConstraint(["store_id", "document_id"], ["documents.store_id", "documents.id"]),)

    store_id: Mapped[UUID] = mapped_column(primary_key=True)
    document_id: Mapped[UUID] = mapped_column(primary_key=True)
    job_id: Mapped[UUID] = mapped_column(primary_key=True)
    status: Mapped[str] = mapped_column(default="pending")
    created_at: Mapped[datetime] = mapped_column(default=now)
    finished_at: Mapped[datetime | None]
