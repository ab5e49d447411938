"""The table of mailings. Recipients, suppressions and domains are read and written with SQL only."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from dues.accounts.models import User
from dues.postgres import Model, Versioned
from dues.stores.models import Store

STATUSES = ("pending", "running", "succeeded", "failed", "canceled")


class Mailing(Versioned, Model):
    """A post that is mailed. `subject` and `body` are those of the post when the mailing was requested.

    `recipients` counts everybody who should get it. Each of them is counted later as `sent`, `failed` (refused by the
    mail server, or tried in vain for hours), `unknown` (it is not known whether the mail was accepted) or `skipped`
    (may no longer get it). Some of those sent are also counted as `bounced`, `complained` or `unsubscribed` later.
    """

    __tablename__ = "mailings"

    store_id: Mapped[UUID] = mapped_column(ForeignKey(Store.id), primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    # No foreign key: the mailing remains when its post is deleted.
    post_id: Mapped[UUID]
    requested_by: Mapped[UUID] = mapped_column(ForeignKey(User.id))
    subject: Mapped[str]
    body: Mapped[str]
    status: Mapped[str] = mapped_column(default="pending")
    job_id: Mapped[UUID | None]
    recipients: Mapped[int] = mapped_column(default=0)
    sent: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)
    unknown: Mapped[int] = mapped_column(default=0)
    skipped: Mapped[int] = mapped_column(default=0)
    bounced: Mapped[int] = mapped_column(default=0)
    complained: Mapped[int] = mapped_column(default=0)
    unsubscribed: Mapped[int] = mapped_column(default=0)
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
