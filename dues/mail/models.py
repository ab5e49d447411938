"""The table of mails: one row for each that was ever to be sent."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import CheckConstraint, DateTime, Index, LargeBinary, Text, func
from sqlalchemy.orm import Mapped, mapped_column

from dues.postgres import Model

State = Literal["pending", "sending", "committing", "sent", "rejected", "unknown"]


class EmailSend(Model):
    """A mail, its frozen bytes and how far its sending came. `id` is the left half of its Message-ID.

    `fence` is the lease of the job that holds the mail; `dot_at` is when the server may first have accepted it.
    """

    __tablename__ = "email_sends"
    __table_args__ = (
        CheckConstraint("state in ('pending', 'sending', 'committing', 'sent', 'rejected', 'unknown')"),
        Index("email_sends_unknown_idx", "created_at", postgresql_where="state = 'unknown'"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    dedupe_key: Mapped[str] = mapped_column(Text, unique=True)
    recipient: Mapped[str] = mapped_column(Text)
    raw: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[State] = mapped_column(Text, server_default="pending")
    fence: Mapped[UUID | None]
    dot_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    sent_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    reply: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
