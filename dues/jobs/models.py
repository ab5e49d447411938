"""The table of slow work. Its rows are written with SQL (outbox.py, turns.py, lease.py, service.py); this is for
reading."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Integer, SmallInteger
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from dues.postgres import Model


class Job(Model):
    """One piece of slow work, and the proof that it is wanted: the row is the outbox. `due` says that `run_at` has
    come, as far as anybody has noticed."""

    __tablename__ = "jobs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    kind: Mapped[str]
    queue: Mapped[str]
    priority: Mapped[int] = mapped_column(SmallInteger)
    args: Mapped[dict[str, Any]] = mapped_column(JSONB)
    owner_id: Mapped[UUID | None]
    store_id: Mapped[UUID | None]
    dedupe_key: Mapped[str | None]
    status: Mapped[str]
    run_at: Mapped[datetime]
    due: Mapped[bool]
    # The name of a circuit (dues/breaker.py): the job becomes due when that lets calls through.
    waits_for: Mapped[str | None]
    # These two are for processes of the release before, which may still run. The next release drops them.
    dispatched_at: Mapped[datetime | None]
    delivery: Mapped[int] = mapped_column(Integer)
    attempt: Mapped[int] = mapped_column(Integer)
    max_attempts: Mapped[int] = mapped_column(Integer)
    timeout_s: Mapped[int] = mapped_column(Integer)
    lease_token: Mapped[UUID | None]
    lease_until: Mapped[datetime | None]
    leased_by: Mapped[str | None]
    cancelable: Mapped[bool]
    cancel_requested_at: Mapped[datetime | None]
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    error: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    trace: Mapped[str | None]
    version: Mapped[int]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
